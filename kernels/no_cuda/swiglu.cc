#include "core/ops/swiglu.h"

#include "kernels/no_cuda/no_cuda.h"

namespace weft::ops::cuda {

void swiglu(const Tensor&, const Tensor&) {
  no_cuda("swiglu");
}
void swiglu_backward(const Tensor&, const Tensor&) {
  no_cuda("swiglu_backward");
}

}  // namespace weft::ops::cuda
