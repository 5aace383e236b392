#include "core/ops/rope.h"

#include "kernels/no_cuda/no_cuda.h"

namespace weft::ops::cuda {

void rope_table(const Tensor&, const Tensor&, const Tensor&) {
  no_cuda("rope_table");
}
void rope(const RopeArgs&) {
  no_cuda("rope");
}

}  // namespace weft::ops::cuda
