// The real training step, by the trainer, on random tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "parallel/mesh.h"
#include "recipes/bench_floor.h"
#include "recipes/bench_links.h"
#include "recipes/run_config.h"

namespace weft::recipes {

struct StepTiming {
  double first_step_seconds = 0;  // from the start of the process to the end of the first step
  double seconds = 0;             // of a step: median of a few windows of steps
  double fastest = 0, slowest = 0;
  std::vector<size_t> peak_bytes;  // by MemoryTag, after the warm-up
  size_t peak_total = 0;           // of all together
  size_t peak_since_start = 0;     // the same with the making of the model and the warm-up
};

struct StepBench {
  StepShape shape;
  StepTiming timing;  // zeros where no step was to be run
  std::vector<LinkSpeed> links;
};

struct StepBenchOptions {
  int local_rank = 0;        // of this rank among those of its host
  std::string cache_folder;  // TrainOptions'
  int64_t warmup = 3;
  int64_t steps = 20;  // 0: only the shape and the links
};

// Collective. Loads or makes the model, runs the steps, and gives all memory back.
StepBench bench_step(const RunConfig& config, const std::shared_ptr<parallel::Communicator>& world,
                     const StepBenchOptions& options);

}  // namespace weft::recipes
