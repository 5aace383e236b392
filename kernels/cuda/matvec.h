// Products of a few rows with a weight (decoding), bound by the speed at which the weight is read:
// faster than a library's tiles, which are made for many rows.
#pragma once

#include "core/ops/matmul.h"

namespace weft::ops::cuda::matvec {

// At most four rows, a weight given as w.transposed() whose rows lie in memory as a and b are read:
// in whole 16 bytes.
bool takes(const Matrix& a, const Matrix& b, const Matrix& c);
void multiply(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options);

}  // namespace weft::ops::cuda::matvec
