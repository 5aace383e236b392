#include "core/ops/matmul.h"

#include <algorithm>
#include <atomic>

#include "core/ops/elementwise.h"

namespace weft::ops {
namespace {

std::atomic<bool> tf32{false};

std::string describe(const Matrix& m) {
  return fmt::format("[{}, {}] strides {}, {} {} {}", m.rows, m.cols, m.row_stride, m.col_stride,
                     name_of(m.dtype), to_string(m.device));
}

bool has_unit_stride(const Matrix& m) {
  return m.row_stride == 1 || m.col_stride == 1 || m.rows == 0 || m.cols == 0;
}

bool rows_lie_apart(const Matrix& m) {
  return m.col_stride == 1 && (m.row_stride >= m.cols || m.rows <= 1);
}

void check_added(const Matrix& c, const MatmulOptions& options) {
  if (const Matrix* addend = options.addend) {
    CHECK(!options.accumulate, "[matmul] an addend and accumulate");
    CHECK(addend->rows == c.rows && addend->cols == c.cols && addend->dtype == c.dtype &&
              addend->device == c.device && rows_lie_apart(*addend) && addend->data != c.data,
          "[matmul] {} = product + {}", describe(c), describe(*addend));
  }
  if (const Tensor* bias = options.bias_N)
    CHECK(bias->rank() == 1 && bias->dim(0) == c.cols && bias->device() == c.device &&
              (bias->dtype() == DType::f32 || bias->dtype() == c.dtype),
          "[matmul] {} + bias {} {}", describe(c), bias->shape().to_string(),
          name_of(bias->dtype()));
}

void check_thin(const Matrix& a, const Matrix& c, const ThinProduct& thin) {
  CHECK(thin.a.cols == thin.b.rows && thin.a.rows == c.rows && thin.column >= 0 &&
            thin.column + thin.b.cols <= c.cols && thin.a.dtype == a.dtype &&
            thin.b.dtype == a.dtype && c.dtype == a.dtype && thin.a.device == a.device &&
            thin.b.device == a.device && has_unit_stride(thin.a) && has_unit_stride(thin.b),
        "[matmul] {} += {} x {} from column {}", describe(c), describe(thin.a), describe(thin.b),
        thin.column);
}

// The addend copied to c is the c that is accumulated, in the same f32 sum.
void matmul_by_parts(const Matrix& a, const Matrix& b, const Matrix& c,
                     const MatmulOptions& options) {
  if (options.addend) copy(*options.addend, c);
  const bool accumulate = options.accumulate || options.addend;
  const MatmulOptions plain{.alpha = options.alpha, .accumulate = accumulate};
  if (!(a.cols == 0 && accumulate))
    a.device.is_cpu() ? cpu::matmul(a, b, c, plain) : cuda::matmul(a, b, c, plain);
  if (options.bias_N) add_bias(c, *options.bias_N);
}

// Whether the thin products reach every column of c, each column's first one in order.
bool fill(const Matrix& c, const std::vector<ThinProduct>& thin) {
  int64_t filled = 0;
  for (const ThinProduct& t : thin) {
    if (t.column != filled && t.column + t.b.cols > filled) return false;
    filled = std::max(filled, t.column + t.b.cols);
  }
  return filled == c.cols;
}

// A thin product costs the writing of c, and a wide one hides the reading of it: so thin ones that
// reach every column come first.
void matmul_and_thin(const Matrix& a, const Matrix& b, const Matrix& c,
                     const MatmulOptions& options) {
  MatmulOptions wide = options;
  wide.thin.clear();
  const bool first = !options.accumulate && fill(c, options.thin);
  if (!first) matmul(a, b, c, wide);
  int64_t filled = first ? 0 : c.cols;
  for (const ThinProduct& t : options.thin) {
    const int64_t end = t.column + t.b.cols;
    const bool assigns = t.column == filled;
    const Matrix addend = options.addend ? options.addend->columns(t.column, end) : Matrix();
    matmul(t.a, t.b, c.columns(t.column, end),
           {.alpha = t.alpha,
            .accumulate = !assigns,
            .addend = assigns && options.addend ? &addend : nullptr});
    filled = std::max(filled, end);
  }
  if (!first) return;
  wide.accumulate = true;
  wide.addend = nullptr;
  matmul(a, b, c, wide);
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
  CHECK(rows_lie_apart(c), "[matmul] into {}", describe(c));
  check_added(c, options);
  for (const ThinProduct& thin : options.thin) check_thin(a, c, thin);
  if (c.rows == 0 || c.cols == 0) return;
  if (!options.thin.empty() && (a.device.is_cpu() || !cuda::fuses(a, b, c, options)))
    return matmul_and_thin(a, b, c, options);
  if (a.device.is_cpu() || a.cols == 0) return matmul_by_parts(a, b, c, options);
  cuda::matmul(a, b, c, options);
}

void allow_tf32(bool allowed) {
  tf32 = allowed;
}

bool tf32_allowed() {
  return tf32;
}

}  // namespace weft::ops
