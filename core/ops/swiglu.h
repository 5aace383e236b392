// SwiGLU (Shazeer 2020): y = silu(gate) * up.
#pragma once

#include "core/tensor/tensor.h"

namespace weft::ops {

// gate_up[T,2F]: gate in the first F columns, up in the others. Returns y[T,F].
Tensor swiglu(const Tensor& gate_up_T2F);
// gate_up becomes its own gradient, in place, and is returned.
Tensor swiglu_backward(const Tensor& dy_TF, const Tensor& gate_up_T2F);

namespace cpu {
void swiglu(const Tensor& gate_up, const Tensor& y);
void swiglu_backward(const Tensor& dy, const Tensor& gate_up);
}  // namespace cpu
namespace cuda {
void swiglu(const Tensor& gate_up, const Tensor& y);
void swiglu_backward(const Tensor& dy, const Tensor& gate_up);
}  // namespace cuda

}  // namespace weft::ops
