#include "core/ops/matrix.h"

#include <utility>

namespace weft::ops {
namespace {

void* element(const Matrix& m, int64_t offset) {
  return static_cast<char*>(m.data) + offset * static_cast<int64_t>(size_of(m.dtype));
}

}  // namespace

Matrix::Matrix(const Tensor& t) {
  CHECK(t.defined() && t.rank() == 2, "a matrix of a tensor {}", t.shape().to_string());
  data = t.raw();
  rows = t.dim(0);
  cols = t.dim(1);
  row_stride = cols;
  dtype = t.dtype();
  device = t.device();
}

Matrix Matrix::transposed() const {
  Matrix m = *this;
  std::swap(m.rows, m.cols);
  std::swap(m.row_stride, m.col_stride);
  return m;
}

Matrix Matrix::columns(int64_t begin, int64_t end) const {
  CHECK(0 <= begin && begin <= end && end <= cols, "columns {}..{} of {}", begin, end, cols);
  Matrix m = *this;
  m.data = element(*this, begin * col_stride);
  m.cols = end - begin;
  return m;
}

Matrix Matrix::row_range(int64_t begin, int64_t end) const {
  CHECK(0 <= begin && begin <= end && end <= rows, "rows {}..{} of {}", begin, end, rows);
  Matrix m = *this;
  m.data = element(*this, begin * row_stride);
  m.rows = end - begin;
  return m;
}

}  // namespace weft::ops
