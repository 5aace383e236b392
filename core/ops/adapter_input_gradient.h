// The gradient of a low-rank adapter that reads its input: h = scale * x A^T.
#pragma once

#include "core/ops/matrix.h"

namespace weft::ops {

// What x was made of where it was not kept: x is what rms_norm made of from[T,K] with this weight.
struct NormedInput {
  Tensor from_TK;
  Tensor weight_K;
  Tensor rstd_T;
};

struct AdapterInputGradientArgs {
  Matrix dh_TR;  // scaled; x's dtype
  Tensor x_TK;   // undefined: `normed` is its origin
  NormedInput normed;
  const Tensor& da_RK;  // +=; f32 or x's dtype

  const Tensor& input() const { return x_TK.defined() ? x_TK : normed.from_TK; }
};
// da += dh^T x, summed in f32 and rounded once. The same call gives the same bits.
void adapter_input_gradient(const AdapterInputGradientArgs& args);

// The definition: x made again, and a matrix product.
void adapter_input_gradient_by_product(const AdapterInputGradientArgs& args);

namespace cpu {
void adapter_input_gradient(const AdapterInputGradientArgs& args);
}  // namespace cpu
namespace cuda {
// Reads what it is given once where it can: takes() in kernels/cuda/adapter_input_gradient.cu.
void adapter_input_gradient(const AdapterInputGradientArgs& args);
}  // namespace cuda

}  // namespace weft::ops
