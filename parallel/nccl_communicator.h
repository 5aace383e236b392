// The communicator of GPU tensors.
#pragma once

#include <memory>

#include "parallel/communicator.h"

namespace weft::parallel {

// NCCL over the ranks of `host`, which carries its bootstrap. Throws Error{unavailable} in a build
// without CUDA.
std::shared_ptr<Communicator> make_nccl(std::shared_ptr<Communicator> host, Device device);

}  // namespace weft::parallel
