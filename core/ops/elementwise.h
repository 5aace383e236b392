// Elementwise and small reducing ops.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/ops/matrix.h"
#include "core/tensor/tensor.h"

namespace weft::ops {

Tensor add(const Tensor& a, const Tensor& b);  // = a + b, computed in f32, a's dtype
void axpy(float alpha, const Tensor& x,
          const Tensor& y);  // y += alpha x; dtypes f32 and bf16, mixed too
void scale_in_place(const Tensor& x, float factor);
void cast(const Tensor& src,
          const Tensor& dst);  // dst = src in dst's dtype (f32, bf16, f16), rounded to even
Tensor cast(const Tensor& src, DType dtype, MemoryTag tag = MemoryTag::activation);

// Views of columns are welcome where a Matrix is taken (col_stride 1); vectors are f32 or the
// matrix's dtype.
void copy(const Matrix& src_TN, const Matrix& dst_TN);    // same dtype
void add_bias(const Matrix& y_TN, const Tensor& bias_N);  // y += bias, each row
void bias_backward(const Matrix& dy_TN,
                   const Tensor& dbias_N);  // dbias += column sums, fixed order

// DoRA (Liu et al. 2024, eq. 5): norms of rows, scaling of columns, and the magnitude's gradient.
Tensor row_norms(const Tensor& w_NK);             // [N] f32, sqrt of the sum of squares
Tensor divide(const Tensor& a, const Tensor& b);  // f32 = a / b, elementwise
void scale_columns(const Matrix& y_TN,
                   const Tensor& factor_N);  // y *= factor, in place; factor f32
void column_dot(const Matrix& a_TN, const Matrix& b_TN,
                const Tensor& out_N);  // out f32 += sum_t a b

// Sums in f64 in a fixed order, whatever the thread count and the other tensors; out is f64 (=),
// one a tensor.
void sum(const Tensor& x, const Tensor& out);
void sums_of_squares(const std::vector<Tensor>& tensors, const Tensor& out);

// x[i] = mean + std * normal of global index g = first_index + i: the value of an element depends
// on (seed, name, g) only. Philox keyed by mix(seed, hash_name(name)), counter (g / 4, low and high
// half); draws (0, 1) give elements 0, 1 of the four by Box-Muller in f32, draws (2, 3) the others.
struct NormalFill {
  uint64_t seed = 0;
  std::string_view name;
  int64_t first_index = 0;
  float mean = 0;
  float std = 1;
};
void fill_normal(const Tensor& x, const NormalFill& fill);
// The same with uniform numbers in [low, high): draw g % 4.
struct UniformFill {
  uint64_t seed = 0;
  std::string_view name;
  int64_t first_index = 0;
  float low = 0;
  float high = 1;
};
void fill_uniform(const Tensor& x, const UniformFill& fill);
void fill(const Tensor& x, float value);
void zero(const std::vector<Tensor>& tensors);  // every byte, of whatever dtypes

namespace cpu {
void add(const Tensor& a, const Tensor& b, const Tensor& y);
void axpy(float alpha, const Tensor& x, const Tensor& y);
void scale_in_place(const Tensor& x, float factor);
void cast(const Tensor& src, const Tensor& dst);
void divide(const Tensor& a, const Tensor& b, const Tensor& y);
void copy(const Matrix& src, const Matrix& dst);
void add_bias(const Matrix& y, const Tensor& bias);
void bias_backward(const Matrix& dy, const Tensor& dbias);
void scale_columns(const Matrix& y, const Tensor& factor);
void column_dot(const Matrix& a, const Matrix& b, const Tensor& out);
void row_norms(const Tensor& w, const Tensor& norms);
void sum(const Tensor& x, const Tensor& out);
void sums_of_squares(const std::vector<Tensor>& tensors, const Tensor& out);
void fill_normal(const Tensor& x, const NormalFill& fill);
void fill_uniform(const Tensor& x, const UniformFill& fill);
void fill(const Tensor& x, float value);
void zero(const std::vector<Tensor>& tensors);
}  // namespace cpu
namespace cuda {
void add(const Tensor& a, const Tensor& b, const Tensor& y);
void axpy(float alpha, const Tensor& x, const Tensor& y);
void scale_in_place(const Tensor& x, float factor);
void cast(const Tensor& src, const Tensor& dst);
void divide(const Tensor& a, const Tensor& b, const Tensor& y);
void copy(const Matrix& src, const Matrix& dst);
void add_bias(const Matrix& y, const Tensor& bias);
void bias_backward(const Matrix& dy, const Tensor& dbias);
void scale_columns(const Matrix& y, const Tensor& factor);
void column_dot(const Matrix& a, const Matrix& b, const Tensor& out);
void row_norms(const Tensor& w, const Tensor& norms);
void sum(const Tensor& x, const Tensor& out);
void sums_of_squares(const std::vector<Tensor>& tensors, const Tensor& out);
void fill_normal(const Tensor& x, const NormalFill& fill);
void fill_uniform(const Tensor& x, const UniformFill& fill);
void fill(const Tensor& x, float value);
void zero(const std::vector<Tensor>& tensors);
}  // namespace cuda

}  // namespace weft::ops
