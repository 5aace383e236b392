#include "core/ops/matmul.h"

#include "kernels/no_cuda/no_cuda.h"

namespace weft::ops::cuda {

void matmul(const Matrix&, const Matrix&, const Matrix&, const MatmulOptions&) {
  no_cuda("matmul");
}
bool fuses(const Matrix&, const Matrix&, const Matrix&, const MatmulOptions&) {
  no_cuda("matmul");
}

}  // namespace weft::ops::cuda
