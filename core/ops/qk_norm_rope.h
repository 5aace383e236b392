// Per-head RMSNorm of q and k and their rotary embedding in one pass over a fused qkv (Qwen3):
// q = rope(norm(q) * q_weight), k alike, v as it is.
#pragma once

#include "core/tensor/tensor.h"

namespace weft::ops {

struct QkNormRopeArgs {
  const Tensor& qkv;       // [T, (num_heads + 2 * num_kv_heads) * head_dim]
  const Tensor& table;     // [T, head_dim], of ops::rope_table
  const Tensor& q_weight;  // [head_dim], qkv's dtype or f32
  const Tensor& k_weight;  // the same dtype
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  float eps = 0;
};
struct QkNormRopeResult {
  Tensor qkv;   // in memory of its own: the backward reads the raw qkv
  Tensor rstd;  // [T, num_heads + num_kv_heads] f32
};
// A normalised head is rounded to qkv's dtype before it is turned, as in rms_norm, then rope: on a
// CPU the two have the same bits.
QkNormRopeResult qk_norm_rope(const QkNormRopeArgs& args);

struct QkNormRopeBackwardArgs {
  const Tensor& dqkv;  // of the result; becomes the gradient of the raw qkv, v's is left alone
  const QkNormRopeArgs& forward;
  const Tensor& rstd;
  const Tensor& dq_weight;  // += (f32 or qkv's dtype), in a fixed order; undefined where frozen
  const Tensor& dk_weight;
};
// A head turned back is rounded to qkv's dtype, as in rope's inverse, then rms_norm_backward.
void qk_norm_rope_backward(const QkNormRopeBackwardArgs& args);

namespace cpu {
void qk_norm_rope(const QkNormRopeArgs& args, const QkNormRopeResult& result);
void qk_norm_rope_backward(const QkNormRopeBackwardArgs& args);
}  // namespace cpu
namespace cuda {
void qk_norm_rope(const QkNormRopeArgs& args, const QkNormRopeResult& result);
void qk_norm_rope_backward(const QkNormRopeBackwardArgs& args);
}  // namespace cuda

}  // namespace weft::ops
