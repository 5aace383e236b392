// Dropout whose mask depends on what is dropped, never on where: Philox keyed by mix(mix(seed,
// step), site); counter (feature / 4, token in the sample, sample id's low and high half); draw
// feature % 4. An element is dropped when to_unit_float(draw) < p. Backward is the same function on
// dy.
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

namespace cpu {
void dropout(const DropoutArgs& args, const Tensor& y, bool accumulate);
}  // namespace cpu
namespace cuda {
void dropout(const DropoutArgs& args, const Tensor& y, bool accumulate);
}  // namespace cuda

}  // namespace weft::ops
