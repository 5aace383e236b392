#include "core/ops/dropout.h"

#include "kernels/no_cuda/no_cuda.h"

namespace weft::ops::cuda {

void dropout(const DropoutArgs&, const Tensor&, bool) {
  no_cuda("dropout");
}

}  // namespace weft::ops::cuda
