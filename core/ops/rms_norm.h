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

struct RmsNormArgs {
  const Tensor& x_TD;
  const Tensor& residual_TD;  // with add_rms_norm, else undefined
  const Tensor& weight_D;
  const Tensor& sum_TD;  // =, with add_rms_norm, else undefined
  const Tensor& y_TD;    // =
  const Tensor& rstd_T;  // =
  float eps = 0;
};

namespace cpu {
void rms_norm(const RmsNormArgs& args);
void rms_norm_rebuild(const Tensor& x, const Tensor& weight, const Tensor& rstd, const Tensor& y);
void rms_norm_backward(const RmsNormBackwardArgs& args, const Tensor& dx);
}  // namespace cpu
namespace cuda {
void rms_norm(const RmsNormArgs& args);
void rms_norm_rebuild(const Tensor& x, const Tensor& weight, const Tensor& rstd, const Tensor& y);
void rms_norm_backward(const RmsNormBackwardArgs& args, const Tensor& dx);
}  // namespace cuda

}  // namespace weft::ops
