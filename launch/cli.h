// The command line of `weft`: which verbs there are, what they take, and how the process ends.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "launch/process.h"
#include "parallel/communicator.h"
#include "recipes/bench.h"
#include "recipes/data.h"
#include "recipes/eval.h"
#include "recipes/export.h"
#include "recipes/generate.h"
#include "recipes/inspect.h"
#include "recipes/tokenize.h"
#include "recipes/train.h"

namespace weft::launch {

using World = std::shared_ptr<parallel::Communicator>;

// What the command line starts; tests put their own in.
struct Verbs {
  std::function<void(const recipes::TrainOptions&, const World&)> train;
  std::function<void(const recipes::BenchOptions&, const World&)> bench;
  std::function<void(const recipes::EvalOptions&, const World&)> eval;
  std::function<void(const recipes::GenerateOptions&)> generate;
  std::function<void(const recipes::ExportOptions&)> export_;
  std::function<void(const recipes::InspectOptions&)> inspect;
  std::function<void(const recipes::DataOptions&)> data;
  std::function<void(const recipes::TokenizeOptions&)> tokenize;
  std::function<World(bool under_mpi)> make_world;
};

// Parses the arguments (without the program's name), runs a verb and returns the exit code. Every
// error becomes one line on standard error; of several ranks one speaks, and the others are told.
// `threads` is what a verb computes with unless an option says otherwise.
int run_command(const std::vector<std::string>& arguments, const Verbs& verbs,
                const Process& process, int threads);

}  // namespace weft::launch
