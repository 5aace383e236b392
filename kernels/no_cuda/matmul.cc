#include "core/ops/matmul.h"

namespace weft::ops::cuda {

void matmul(const Matrix&, const Matrix&, const Matrix&, const MatmulOptions&) {
  fail(ErrorKind::unavailable, "[matmul] this build has no GPU code");
}

}  // namespace weft::ops::cuda
