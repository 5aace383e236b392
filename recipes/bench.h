// `weft bench [CONFIG] [key=value ...]`: what this machine can do for the model of a run, and what
// share of it the run's step reaches.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "recipes/run_config.h"

namespace weft::recipes {

struct BenchOptions {
  RunConfig config;
  int local_rank = 0;        // of this rank among those of its host
  std::string cache_folder;  // TrainOptions'
  int64_t warmup = 3;        // steps
  int64_t steps = 20;        // timed
  bool floor = true;         // measure the pieces of a step, each alone
  bool step = true;          // run the step
  bool json = false;
};

// As for a run, but neither data nor a tokenizer is needed, any recipe may start from model.config,
// and train.global_batch, where it is not given, is 0: one micro-batch a rank. `arguments`: a YAML
// file, unless the first is a "key=value" already, and what replaces its values.
RunConfig read_bench_config(std::vector<std::string> arguments);

// Every rank calls it; rank 0 prints to standard output.
void run_bench(const BenchOptions& options, const std::shared_ptr<parallel::Communicator>& world);

}  // namespace weft::recipes
