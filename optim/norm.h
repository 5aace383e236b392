// What clipping by the global norm starts from.
#pragma once

#include <vector>

#include "core/nn/shard.h"

namespace weft::optim {

// sums[i] = the sum of squares of shard i's gradient, in f64: [shards.size()], where they are.
void sums_of_squares(const std::vector<nn::Shard>& shards, const Tensor& sums);

}  // namespace weft::optim
