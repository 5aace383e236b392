// A view of a matrix for products: rows x cols elements with a leading dimension, possibly
// transposed.
#pragma once

#include "core/tensor/tensor.h"

namespace weft::ops {

// Element (i, j) lies at data[i * row_stride + j * col_stride]; one of the strides is 1.
// Does not own its memory: the tensor it was made of must outlive it.
struct Matrix {
  void* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride = 0;
  int64_t col_stride = 1;
  DType dtype = DType::f32;
  Device device;

  Matrix(const Tensor& t);  // rank 2, implicit on purpose: matmul(x, w.transposed(), y)
  Matrix() = default;
  Matrix transposed() const;
  Matrix columns(int64_t begin, int64_t end) const;
  Matrix row_range(int64_t begin, int64_t end) const;
};

inline Matrix transposed(const Tensor& t) {
  return Matrix(t).transposed();
}
inline Matrix columns(const Tensor& t, int64_t begin, int64_t end) {
  return Matrix(t).columns(begin, end);
}

}  // namespace weft::ops
