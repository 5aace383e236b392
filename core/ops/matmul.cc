#include "core/ops/matmul.h"

namespace weft::ops {
namespace {

std::string describe(const Matrix& m) {
  return fmt::format("[{}, {}] strides {}, {} {} {}", m.rows, m.cols, m.row_stride, m.col_stride,
                     name_of(m.dtype), to_string(m.device));
}

bool has_unit_stride(const Matrix& m) {
  return m.row_stride == 1 || m.col_stride == 1 || m.rows == 0 || m.cols == 0;
}

}  // namespace

void matmul(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options) {
  CHECK(a.cols == b.rows && a.rows == c.rows && b.cols == c.cols, "[matmul] {} = {} x {}",
        describe(c), describe(a), describe(b));
  const bool dtypes = a.dtype == b.dtype && is_compute_type(a.dtype, a.device) &&
                      (c.dtype == DType::f32 || c.dtype == a.dtype);
  CHECK(dtypes && a.device == b.device && a.device == c.device, "[matmul] {} = {} x {}",
        describe(c), describe(a), describe(b));
  CHECK(has_unit_stride(a) && has_unit_stride(b), "[matmul] {} x {}", describe(a), describe(b));
  CHECK(c.col_stride == 1 && (c.row_stride >= c.cols || c.rows <= 1), "[matmul] into {}",
        describe(c));
  if (c.rows == 0 || c.cols == 0) return;
  if (a.device.is_cpu()) return cpu::matmul(a, b, c, options);
  cuda::matmul(a, b, c, options);
}

}  // namespace weft::ops
