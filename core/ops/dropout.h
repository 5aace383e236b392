// Dropout whose mask depends on what is dropped, never on where: Philox keyed by (seed, step,
// site), counter (sample id, token in the sample, feature). Backward is the same function on dy.
#pragma once

#include "core/tensor/tensor.h"

namespace weft::ops {

struct DropoutArgs {
  const Tensor& x_TD;
  const Tensor& sample_ids_T;  // [T] i64
  const Tensor& positions_T;   // [T] i32, token in the sample
  uint64_t seed = 0;
  uint64_t step = 0;
  uint64_t site = 0;  // hash of the layer input's name
  float p = 0;        // share dropped, 0 <= p < 1; the others are scaled by 1 / (1 - p)
};
Tensor dropout(const DropoutArgs& args);
// y[T,D] += dropout(x)
void dropout_accumulate(const DropoutArgs& args, const Tensor& y_TD);

}  // namespace weft::ops
