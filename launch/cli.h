// The command line of `weft`: which verbs there are, what they take, and how the process ends.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "recipes/data.h"
#include "recipes/eval.h"
#include "recipes/export.h"
#include "recipes/generate.h"
#include "recipes/inspect.h"
#include "recipes/process.h"
#include "recipes/tokenize.h"
#include "recipes/train.h"

namespace weft::launch {

// What the command line starts; tests put their own in.
struct Verbs {
  std::function<void(const recipes::TrainOptions&, const recipes::Process&)> train;
  std::function<void(const recipes::EvalOptions&, const recipes::Process&)> eval;
  std::function<void(const recipes::GenerateOptions&, const recipes::Process&)> generate;
  std::function<void(const recipes::ExportOptions&, const recipes::Process&)> export_;
  std::function<void(const recipes::InspectOptions&, const recipes::Process&)> inspect;
  std::function<void(const recipes::DataOptions&, const recipes::Process&)> data;
  std::function<void(const recipes::TokenizeOptions&)> tokenize;
};

// Parses the arguments (without the program's name) and runs a verb. Returns 0 also after --help
// and --version. Throws usage, and whatever the verb throws. `threads` is what a verb computes with
// unless told otherwise.
int run_command(const std::vector<std::string>& arguments, const Verbs& verbs,
                const recipes::Process& process, int threads);

// The same with every exception turned into one line on standard error and the exit code of its
// kind. Of several ranks that fail alike, one speaks.
int run_and_report(const std::vector<std::string>& arguments, const Verbs& verbs,
                   const recipes::Process& process, int threads);

}  // namespace weft::launch
