// What the library behind CPU products (oneDNN or Eigen, chosen when building) must give; the rest
// of matmul is kernels/cpu/matmul.cc.
#pragma once

#include "core/ops/matmul.h"

namespace weft::ops::cpu {

// Whether library_product takes bf16 operands at full speed on this processor. f32: always.
bool library_multiplies_bf16();

// As ops::matmul, with M, N, K >= 1.
void library_product(const Matrix& a, const Matrix& b, const Matrix& c,
                     const MatmulOptions& options);

}  // namespace weft::ops::cpu
