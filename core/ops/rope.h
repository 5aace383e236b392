// Rotary position embedding in Hugging Face's rotate-half form (Su et al. 2021; GPT-NeoX layout).
#pragma once

#include "core/tensor/tensor.h"

namespace weft::ops {

// [T, head_dim] f32: cos of position * inv_freq in the first half of a row, sin in the second.
// positions [T] i32, inv_freq [head_dim/2] f32; products and functions in f32, as transformers
// does.
Tensor rope_table(const Tensor& positions_T, const Tensor& inv_freq);

// In place: rotates the first `num_heads` heads of each row of x[T, >= num_heads * head_dim] (the q
// and k part of a fused qkv). inverse = true undoes it, which is also its backward.
struct RopeArgs {
  const Tensor& x;
  const Tensor& table;  // [T, head_dim]
  int64_t num_heads = 0;
  bool inverse = false;
};
void rope(const RopeArgs& args);

namespace cpu {
void rope_table(const Tensor& positions, const Tensor& inv_freq, const Tensor& table);
void rope(const RopeArgs& args);
}  // namespace cpu
namespace cuda {
void rope_table(const Tensor& positions, const Tensor& inv_freq, const Tensor& table);
void rope(const RopeArgs& args);
}  // namespace cuda

}  // namespace weft::ops
