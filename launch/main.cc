#include <iostream>

#include "core/telemetry/progress.h"
#include "launch/cli.h"
#include "launch/report.h"
#include "launch/signals.h"
#include "launch/terminal.h"
#include "parallel/world.h"

namespace {

weft::launch::Verbs real_verbs() {
  namespace recipes = weft::recipes;
  weft::launch::Verbs verbs;
  verbs.train = recipes::run_train;
  verbs.bench = recipes::run_bench;
  verbs.eval = recipes::run_eval;
  verbs.generate = recipes::run_generate;
  verbs.export_ = recipes::run_export;
  verbs.inspect = recipes::run_inspect;
  verbs.data = recipes::run_data;
  verbs.tokenize = [](const recipes::TokenizeOptions& options) {
    std::ios::sync_with_stdio(false);
    recipes::run_tokenize(options, std::cin, std::cout);
  };
  verbs.make_world = weft::parallel::make_world;
  return verbs;
}

}  // namespace

int main(int argc, char** argv) {
  weft::launch::ignore_write_signals();
  weft::launch::set_library_defaults();
  weft::launch::Process process;
  int threads = 1;
  try {
    process = weft::launch::find_process(weft::launch::read_environment);
    threads = weft::launch::take_share_of_host(process);
    weft::telemetry::set_terminal(
        weft::launch::find_terminal(process, weft::launch::read_environment));
  } catch (...) {
    return report(weft::launch::describe(std::current_exception()), nullptr, process);
  }
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  return weft::launch::run_command(arguments, real_verbs(), process, threads);
}
