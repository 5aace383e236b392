// Root mean square normalisation (Zhang & Sennrich 2019, eq. 4): y = x / sqrt(mean(x^2) + eps) *
// weight.
#pragma once

#include "core/tensor/tensor.h"

namespace weft::ops {

struct RmsNormResult {
  Tensor y;     // [T,D], x's dtype
  Tensor rstd;  // [T] f32
};
// The weight has x's dtype or f32.
RmsNormResult rms_norm(const Tensor& x_TD, const Tensor& weight_D, float eps);

struct AddRmsNormResult {
  Tensor sum;  // [T,D] = x + residual, rounded to x's dtype
  Tensor y;    // normalises the rounded sum
  Tensor rstd;
};
AddRmsNormResult add_rms_norm(const Tensor& x_TD, const Tensor& residual_TD, const Tensor& weight_D,
                              float eps);

// The same y again, bit for bit, from what the forward kept.
Tensor rms_norm_rebuild(const Tensor& x_TD, const Tensor& weight_D, const Tensor& rstd_T);

struct RmsNormBackwardArgs {
  const Tensor& dy_TD;
  const Tensor& x_TD;  // the normalised input (the sum of add_rms_norm)
  const Tensor& weight_D;
  const Tensor& rstd_T;
  const Tensor& dresidual_TD;  // added to dx; may be undefined
  const Tensor& dweight_D;     // += (f32 or x's dtype); undefined when the weight is frozen
};
// Returns dx[T,D] (=), x's dtype. dweight sums tokens in a fixed order whatever the thread count.
Tensor rms_norm_backward(const RmsNormBackwardArgs& args);

// Per-head norm of q or k inside a fused qkv (Qwen3): heads [head_begin, head_begin + num_heads) of
// x[T, ...], each head_dim wide, normalised by weight[head_dim], written to the same place of y
// (may be x).
struct HeadNorm {
  int64_t head_begin = 0;
  int64_t num_heads = 0;
  int64_t head_dim = 0;
};
// Returns rstd [T, num_heads] f32.
Tensor head_rms_norm(const Tensor& x, const Tensor& y, const HeadNorm& heads, const Tensor& weight,
                     float eps);
// In place on those heads of dy: dy becomes dx. dweight += (may be undefined).
void head_rms_norm_backward(const Tensor& dy, const Tensor& x, const HeadNorm& heads,
                            const Tensor& weight, const Tensor& rstd, const Tensor& dweight);

struct RmsNormArgs {
  const Tensor& x_TD;
  const Tensor& residual_TD;  // with add_rms_norm, else undefined
  const Tensor& weight_D;
  const Tensor& sum_TD;  // =, with add_rms_norm, else undefined
  const Tensor& y_TD;    // =
  const Tensor& rstd_T;  // =
  float eps = 0;
};
struct HeadRmsNormArgs {
  const Tensor& x;
  const Tensor& y;  // = at the heads' columns
  const HeadNorm& heads;
  const Tensor& weight;
  const Tensor& rstd;  // =
  float eps = 0;
};
struct HeadRmsNormBackwardArgs {
  const Tensor& dy;  // becomes dx at the heads' columns
  const Tensor& x;
  const HeadNorm& heads;
  const Tensor& weight;
  const Tensor& rstd;
  const Tensor& dweight;  // +=; may be undefined
};

namespace cpu {
void rms_norm(const RmsNormArgs& args);
void rms_norm_rebuild(const Tensor& x, const Tensor& weight, const Tensor& rstd, const Tensor& y);
void rms_norm_backward(const RmsNormBackwardArgs& args, const Tensor& dx);
void head_rms_norm(const HeadRmsNormArgs& args);
void head_rms_norm_backward(const HeadRmsNormBackwardArgs& args);
}  // namespace cpu
namespace cuda {
void rms_norm(const RmsNormArgs& args);
void rms_norm_rebuild(const Tensor& x, const Tensor& weight, const Tensor& rstd, const Tensor& y);
void rms_norm_backward(const RmsNormBackwardArgs& args, const Tensor& dx);
void head_rms_norm(const HeadRmsNormArgs& args);
void head_rms_norm_backward(const HeadRmsNormBackwardArgs& args);
}  // namespace cuda

}  // namespace weft::ops
