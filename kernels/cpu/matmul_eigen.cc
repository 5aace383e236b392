// Matrix products by Eigen, where oneDNN is not installed.
#include <Eigen/Core>

#include "core/base/threads.h"
#include "kernels/cpu/matmul_backend.h"

namespace weft::ops::cpu {
namespace {

using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ColMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
template <class Order>
using View = Eigen::Map<Order, Eigen::Unaligned, Eigen::OuterStride<>>;

template <class Order>
View<Order> view(const Matrix& m) {
  const int64_t outer = Order::IsRowMajor ? m.row_stride : m.col_stride;
  return View<Order>(static_cast<float*>(m.data), m.rows, m.cols, Eigen::OuterStride<>(outer));
}

template <class A, class B>
void product(const View<A>& a, const View<B>& b, View<RowMajor> c, const MatmulOptions& options) {
  if (!options.accumulate) c.setZero();
  c.noalias() += options.alpha * a * b;
}

template <class A>
void product(const View<A>& a, const Matrix& b, const Matrix& c, const MatmulOptions& options) {
  if (b.col_stride == 1) return product(a, view<RowMajor>(b), view<RowMajor>(c), options);
  product(a, view<ColMajor>(b), view<RowMajor>(c), options);
}

}  // namespace

bool library_multiplies_bf16() {
  return false;
}

void library_product(const Matrix& a, const Matrix& b, const Matrix& c,
                     const MatmulOptions& options) {
  Eigen::setNbThreads(num_threads());
  if (a.col_stride == 1) return product(view<RowMajor>(a), b, c, options);
  product(view<ColMajor>(a), b, c, options);
}

}  // namespace weft::ops::cpu
