#include "core/ops/elementwise.h"

namespace weft::ops {
namespace {

void check_pair(const Tensor& a, const Tensor& b) {
  CHECK(a.numel() == b.numel() && a.device() == b.device(), "{} on {} and {} on {}",
        a.shape().to_string(), to_string(a.device()), b.shape().to_string(), to_string(b.device()));
  CHECK(is_compute_type(a.dtype(), a.device()) && is_compute_type(b.dtype(), b.device()),
        "{} and {}", name_of(a.dtype()), name_of(b.dtype()));
}

// A matrix whose rows are contiguous, and a vector with one element a column.
void check_columns(const Matrix& m, const Tensor& vector) {
  CHECK(m.col_stride == 1 && is_compute_type(m.dtype, m.device));
  CHECK(vector.numel() == m.cols && vector.device() == m.device, "{} for {} columns",
        vector.shape().to_string(), m.cols);
  CHECK(vector.dtype() == DType::f32 || vector.dtype() == m.dtype, "{} for a matrix of {}",
        name_of(vector.dtype()), name_of(m.dtype));
}

void check_alike(const Matrix& a, const Matrix& b) {
  CHECK(a.rows == b.rows && a.cols == b.cols && a.dtype == b.dtype && a.device == b.device,
        "[{}, {}] {} and [{}, {}] {}", a.rows, a.cols, name_of(a.dtype), b.rows, b.cols,
        name_of(b.dtype));
  CHECK(a.col_stride == 1 && b.col_stride == 1);
}

void check_sum(const Tensor& x, const Tensor& out) {
  CHECK(is_compute_type(x.dtype(), x.device()), "x is {}", name_of(x.dtype()));
  CHECK(out.dtype() == DType::f64 && out.device() == x.device());
}

}  // namespace

Tensor add(const Tensor& a, const Tensor& b) {
  check_pair(a, b);
  CHECK(a.dtype() == b.dtype() && a.shape() == b.shape());
  const Tensor y = Tensor::empty(a.shape(), a.dtype(), a.device());
  auto backend = a.device().is_cpu() ? cpu::add : cuda::add;
  backend(a, b, y);
  return y;
}

void axpy(float alpha, const Tensor& x, const Tensor& y) {
  check_pair(x, y);
  auto backend = x.device().is_cpu() ? cpu::axpy : cuda::axpy;
  backend(alpha, x, y);
}

void scale_in_place(const Tensor& x, float factor) {
  CHECK(is_compute_type(x.dtype(), x.device()), "x is {}", name_of(x.dtype()));
  auto backend = x.device().is_cpu() ? cpu::scale_in_place : cuda::scale_in_place;
  backend(x, factor);
}

void cast(const Tensor& src, const Tensor& dst) {
  CHECK(src.numel() == dst.numel() && src.device() == dst.device(), "{} to {}",
        src.shape().to_string(), dst.shape().to_string());
  for (DType dtype : {src.dtype(), dst.dtype()})
    CHECK(dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16, "cast of {}",
          name_of(dtype));
  auto backend = src.device().is_cpu() ? cpu::cast : cuda::cast;
  backend(src, dst);
}

Tensor cast(const Tensor& src, DType dtype, MemoryTag tag) {
  const Tensor dst = Tensor::empty(src.shape(), dtype, src.device(), tag);
  cast(src, dst);
  return dst;
}

Tensor divide(const Tensor& a, const Tensor& b) {
  check_pair(a, b);
  const Tensor y = Tensor::empty(a.shape(), DType::f32, a.device());
  auto backend = a.device().is_cpu() ? cpu::divide : cuda::divide;
  backend(a, b, y);
  return y;
}

void copy(const Matrix& src_TN, const Matrix& dst_TN) {
  check_alike(src_TN, dst_TN);
  auto backend = src_TN.device.is_cpu() ? cpu::copy : cuda::copy;
  backend(src_TN, dst_TN);
}

void add_bias(const Matrix& y_TN, const Tensor& bias_N) {
  check_columns(y_TN, bias_N);
  auto backend = y_TN.device.is_cpu() ? cpu::add_bias : cuda::add_bias;
  backend(y_TN, bias_N);
}

void bias_backward(const Matrix& dy_TN, const Tensor& dbias_N) {
  check_columns(dy_TN, dbias_N);
  auto backend = dy_TN.device.is_cpu() ? cpu::bias_backward : cuda::bias_backward;
  backend(dy_TN, dbias_N);
}

void scale_columns(const Matrix& y_TN, const Tensor& factor_N) {
  check_columns(y_TN, factor_N);
  auto backend = y_TN.device.is_cpu() ? cpu::scale_columns : cuda::scale_columns;
  backend(y_TN, factor_N);
}

void column_dot(const Matrix& a_TN, const Matrix& b_TN, const Tensor& out_N) {
  check_alike(a_TN, b_TN);
  check_columns(a_TN, out_N);
  auto backend = a_TN.device.is_cpu() ? cpu::column_dot : cuda::column_dot;
  backend(a_TN, b_TN, out_N);
}

Tensor row_norms(const Tensor& w_NK) {
  CHECK(w_NK.rank() == 2 && is_compute_type(w_NK.dtype(), w_NK.device()), "w {} {}",
        name_of(w_NK.dtype()), w_NK.shape().to_string());
  const Tensor norms_N = Tensor::empty({w_NK.dim(0)}, DType::f32, w_NK.device());
  auto backend = w_NK.device().is_cpu() ? cpu::row_norms : cuda::row_norms;
  backend(w_NK, norms_N);
  return norms_N;
}

void sum(const Tensor& x, const Tensor& out) {
  check_sum(x, out);
  CHECK(out.numel() == 1);
  auto backend = x.device().is_cpu() ? cpu::sum : cuda::sum;
  backend(x, out);
}

void sums_of_squares(const std::vector<Tensor>& tensors, const Tensor& out) {
  CHECK(out.numel() == static_cast<int64_t>(tensors.size()), "{} sums of {} tensors", out.numel(),
        tensors.size());
  for (const Tensor& x : tensors) check_sum(x, out);
  auto backend = out.device().is_cpu() ? cpu::sums_of_squares : cuda::sums_of_squares;
  backend(tensors, out);
}

void fill_normal(const Tensor& x, const NormalFill& fill) {
  CHECK(is_compute_type(x.dtype(), x.device()) && fill.first_index >= 0);
  auto backend = x.device().is_cpu() ? cpu::fill_normal : cuda::fill_normal;
  backend(x, fill);
}

void fill_uniform(const Tensor& x, const UniformFill& fill) {
  CHECK(is_compute_type(x.dtype(), x.device()) && fill.first_index >= 0);
  auto backend = x.device().is_cpu() ? cpu::fill_uniform : cuda::fill_uniform;
  backend(x, fill);
}

void fill(const Tensor& x, float value) {
  CHECK(is_compute_type(x.dtype(), x.device()), "x is {}", name_of(x.dtype()));
  auto backend = x.device().is_cpu() ? cpu::fill : cuda::fill;
  backend(x, value);
}

void zero(const std::vector<Tensor>& tensors) {
  if (tensors.empty()) return;
  const Device device = tensors.front().device();
  for (const Tensor& x : tensors)
    CHECK(x.defined() && x.device() == device, "zero on {} and {}", to_string(device),
          to_string(x.device()));
  auto backend = device.is_cpu() ? cpu::zero : cuda::zero;
  backend(tensors);
}

}  // namespace weft::ops
