#include "core/ops/qk_norm_rope.h"

#include "kernels/no_cuda/no_cuda.h"

namespace weft::ops::cuda {

void qk_norm_rope(const QkNormRopeArgs&, const QkNormRopeResult&) {
  no_cuda("qk_norm_rope");
}
void qk_norm_rope_backward(const QkNormRopeBackwardArgs&) {
  no_cuda("qk_norm_rope_backward");
}

}  // namespace weft::ops::cuda
