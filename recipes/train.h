// `weft train CONFIG [key=value ...]`: one run, from its start or its last checkpoint to its end.
#pragma once

#include <memory>
#include <string>

#include "core/telemetry/telemetry.h"
#include "parallel/mesh.h"
#include "recipes/model.h"
#include "recipes/run_config.h"

namespace weft::recipes {

struct TrainOptions {
  RunConfig config;
  int local_rank = 0;        // of this rank among those of its host
  bool json = false;         // print a summary as one JSON object at the end
  std::string cache_folder;  // of this user, for files that save time; empty: none
};

// Every rank calls it. Throws try_again when a stop was requested and a checkpoint is committed.
void run_train(const TrainOptions& options, const std::shared_ptr<parallel::Communicator>& world);

// What a run is made of; `weft bench` makes the same.
ModelOptions model_options(const RunConfig& config, const parallel::Mesh& mesh, Device device);
telemetry::Machine machine_of(const Model& model, const parallel::Communicator& world);

}  // namespace weft::recipes
