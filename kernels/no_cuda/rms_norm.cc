#include "core/ops/rms_norm.h"

#include "kernels/no_cuda/no_cuda.h"

namespace weft::ops::cuda {

void rms_norm(const RmsNormArgs&) {
  no_cuda("rms_norm");
}
void rms_norm_rebuild(const Tensor&, const Tensor&, const Tensor&, const Tensor&) {
  no_cuda("rms_norm_rebuild");
}
void rms_norm_backward(const RmsNormBackwardArgs&, const Tensor&) {
  no_cuda("rms_norm_backward");
}

}  // namespace weft::ops::cuda
