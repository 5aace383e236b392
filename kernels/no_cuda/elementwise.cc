#include "core/ops/elementwise.h"

#include "kernels/no_cuda/no_cuda.h"

namespace weft::ops::cuda {

void add(const Tensor&, const Tensor&, const Tensor&) {
  no_cuda("add");
}
void axpy(float, const Tensor&, const Tensor&) {
  no_cuda("axpy");
}
void scale_in_place(const Tensor&, float) {
  no_cuda("scale_in_place");
}
void cast(const Tensor&, const Tensor&) {
  no_cuda("cast");
}
void divide(const Tensor&, const Tensor&, const Tensor&) {
  no_cuda("divide");
}
void copy(const Matrix&, const Matrix&) {
  no_cuda("copy");
}
void add_bias(const Matrix&, const Tensor&) {
  no_cuda("add_bias");
}
void bias_backward(const Matrix&, const Tensor&) {
  no_cuda("bias_backward");
}
void scale_columns(const Matrix&, const Tensor&) {
  no_cuda("scale_columns");
}
void column_dot(const Matrix&, const Matrix&, const Tensor&) {
  no_cuda("column_dot");
}
void row_norms(const Tensor&, const Tensor&) {
  no_cuda("row_norms");
}
void sum(const Tensor&, const Tensor&) {
  no_cuda("sum");
}
void sums_of_squares(const std::vector<Tensor>&, const Tensor&) {
  no_cuda("sums_of_squares");
}
void fill_normal(const Tensor&, const NormalFill&) {
  no_cuda("fill_normal");
}
void fill_uniform(const Tensor&, const UniformFill&) {
  no_cuda("fill_uniform");
}
void fill(const Tensor&, float) {
  no_cuda("fill");
}
void zero(const std::vector<Tensor>&) {
  no_cuda("zero");
}

}  // namespace weft::ops::cuda
