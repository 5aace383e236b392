// Which device each rank of a run computes on: every rank a GPU of its own, or all of them the CPU.
#pragma once

#include <string>
#include <vector>

#include "core/tensor/device.h"
#include "parallel/communicator.h"
#include "recipes/train_config.h"

namespace weft::recipes {

// What a rank says of the GPU that it would take.
struct DeviceClaim {
  std::string host;
  std::string gpu;       // its bus id; empty: none
  int gpus = 0;          // that this rank sees
  std::string why_none;  // when it sees none
};

// Whether these ranks compute on GPUs. Throws unavailable, naming the ranks, when some have a GPU
// and some have none, when two would share one, or when there is none and GPUs were asked for.
bool agree_on_gpus(const std::vector<DeviceClaim>& claims, DeviceChoice choice);

// Collective. Takes no memory. The GPU of a rank is the one of its number among the ranks of its
// host, `local_rank`, of those that it sees.
Device choose_device(DeviceChoice choice, int local_rank, parallel::Communicator& world);

}  // namespace weft::recipes
