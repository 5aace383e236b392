#include "core/ops/adamw.h"

#include "kernels/no_cuda/no_cuda.h"

namespace weft::ops::cuda {

void adamw(const AdamwArgs&) {
  no_cuda("adamw");
}

}  // namespace weft::ops::cuda
