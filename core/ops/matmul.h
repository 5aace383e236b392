// Matrix products. Every layout is a view (core/ops/matrix.h), so there is one function.
#pragma once

#include <vector>

#include "core/ops/matrix.h"

namespace weft::ops {

// A low-rank update of a product: columns column .. column + b.cols of c get alpha * a[M,R] b[R,n]
// more. R may be 0; dtype and device as the product's operands.
struct ThinProduct {
  Matrix a;
  Matrix b;
  int64_t column = 0;
  float alpha = 1.0f;
};

struct MatmulOptions {
  float alpha = 1.0f;
  bool accumulate = false;         // c += instead of c =
  const Matrix* addend = nullptr;  // c = alpha a b + addend: of c's shape and dtype, any row
                                   // stride, col_stride 1, beside c; not with accumulate
  const Tensor* bias_N = nullptr;  // also added to each row: f32 or c's dtype
  std::vector<ThinProduct> thin;   // also added; c has a's dtype then
};

// c[M,N] (= or +=) alpha * a[M,K] b[K,N] (+ addend) (+ bias) (+ thin products). a and b have one
// dtype: f32 (c f32), bf16 or f16 (c the same or f32). Sums are in f32 and rounded once (where the
// bias or a thin product does not go into the product, once more for each). Any of M, N, K may be 0
// (K = 0: the product is zeros). c must not overlap a, b or the addend and must have col_stride 1.
// The same call gives the same bits, on a GPU as long as its table of algorithms is the same
// (product_algorithms.h).
void matmul(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options = {});

// Whether GPUs may round the operands of f32 products to TF32 (10 bits of mantissa). Off unless
// said, for the whole process; a recipe says it once, before it multiplies. CPUs never do.
void allow_tf32(bool allowed);
bool tf32_allowed();

namespace cpu {
// Without addend, bias and thin products.
void matmul(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options);
}  // namespace cpu
namespace cuda {
// Without addend and bias where K is 0; thin products only where it fuses them.
void matmul(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options);
bool fuses(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options);
}  // namespace cuda

}  // namespace weft::ops
