// Clipping by the global norm, from sums of squares of shards.
#pragma once

#include <vector>

#include "core/nn/shard.h"

namespace weft::optim {

// The sum of squares of each shard's gradient, in f64: [shards.size()] f64 (at least one element,
// so that it can be gathered).
Tensor sums_of_squares(const std::vector<nn::Shard>& shards);

struct Clip {
  double norm = 0;     // before clipping; NaN or infinite when the gradients are
  bool finite = true;  // false: the update is a no-op
  float factor = 1;    // for the gradients
  Tensor control;      // [2] f32 for ops::adamw: factor, and 1 or 0
};

// `gathered` [ranks, shards] f64: sums_of_squares of all ranks, in rank order. Added in shard, then
// rank order, so every rank gets the same bits. max_norm <= 0: no clipping. The factor is torch's
// clip_grad_norm_: max_norm / (norm + 1e-6) when that is below 1. `loss_finite`: false makes the
// update a no-op too.
Clip clip(const Tensor& gathered, double max_norm, bool loss_finite = true);

}  // namespace weft::optim
