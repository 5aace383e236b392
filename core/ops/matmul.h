// Matrix products. Every layout is a view (core/ops/matrix.h), so there is one function.
#pragma once

#include "core/ops/matrix.h"

namespace weft::ops {

struct MatmulOptions {
  float alpha = 1.0f;
  bool accumulate = false;  // c += instead of c =
};

// c[M,N] (= or +=) alpha * a[M,K] b[K,N]. a and b have one dtype: f32 (c f32) or bf16 (c bf16 or
// f32). Accumulates in f32. Any of M, N, K may be 0 (K = 0 gives zeros, or leaves c when
// accumulating). c must not overlap a or b and must have col_stride 1. The same call gives the same
// bits.
void matmul(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options = {});

namespace cpu {
void matmul(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options);
}
namespace cuda {
void matmul(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options);
}

}  // namespace weft::ops
