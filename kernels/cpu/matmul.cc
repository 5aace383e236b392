// CPU products: the library's (oneDNN or Eigen), and what it does badly or not at all.
#include "core/ops/matmul.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "core/base/threads.h"
#include "kernels/cpu/matmul_backend.h"

namespace weft::ops::cpu {
namespace {

constexpr int64_t kFewRows = 8;  // up to here: memory-bound, our own dot products

struct RowsTimesTransposed {
  const float* a;  // [rows, depth], contiguous
  const void* b;   // [width, depth], rows b_stride apart
  float* out;      // [rows, width], contiguous
  int64_t rows;    // 1..kFewRows
  int64_t width;
  int64_t depth;
  int64_t b_stride;
};

}  // namespace
}  // namespace weft::ops::cpu

#define WEFT_SIMD_FILE "kernels/cpu/matmul_simd.h"
#include "kernels/cpu/for_each_isa.h"

namespace weft::ops::cpu {
namespace {

constexpr int64_t kNarrow = 64;      // c narrower than this and long: the library likes it wide
constexpr int64_t kBlockRows = 256;  // of bf16 operands converted to f32 at a time
constexpr int64_t kBlockCols = 512;
constexpr int64_t kBlockDepth = 1024;

Tensor workspace(int64_t rows, int64_t cols) {
  return Tensor::empty({rows, cols}, DType::f32, {}, MemoryTag::workspace);
}

// dst[rows, cols] f32 contiguous, = src as f32, whatever its layout. `dst` takes src's order of
// memory: the view that is returned is row- or column-major as src is.
Matrix widen(const Matrix& src, float* dst) {
  Matrix out = src;
  out.data = dst;
  out.dtype = DType::f32;
  const bool row_major = src.col_stride == 1;
  const int64_t lines = row_major ? src.rows : src.cols;
  const int64_t length = row_major ? src.cols : src.rows;
  const int64_t stride = row_major ? src.row_stride : src.col_stride;
  (row_major ? out.row_stride : out.col_stride) = length;
  const auto convert =
      src.dtype == DType::bf16 ? nullptr : SIMD_DISPATCH(convert_row<float, float>);
  const auto convert_bf16 = SIMD_DISPATCH(convert_row<bf16, float>);
  parallel_for(lines, 1 + 16384 / (length + 1), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (convert)
        convert(static_cast<const float*>(src.data) + i * stride, dst + i * length, length);
      else
        convert_bf16(static_cast<const bf16*>(src.data) + i * stride, dst + i * length, length);
    }
  });
  return out;
}

// c (=, +=) alpha * sum[c.rows, c.cols] (contiguous f32).
void finish(const float* sum, const Matrix& c, const MatmulOptions& options) {
  const auto f32_row = SIMD_DISPATCH(finish_row<float>);
  const auto bf16_row = SIMD_DISPATCH(finish_row<bf16>);
  parallel_for(c.rows, 1 + 16384 / (c.cols + 1), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* row = sum + i * c.cols;
      if (c.dtype == DType::f32)
        f32_row(row, static_cast<float*>(c.data) + i * c.row_stride, c.cols, options);
      else
        bf16_row(row, static_cast<bf16*>(c.data) + i * c.row_stride, c.cols, options);
    }
  });
}

// M <= kFewRows and b = w.transposed(): a decoding step's product with a weight.
void few_rows(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options) {
  const Tensor a_f32 = workspace(a.rows, a.cols), sums = workspace(c.rows, c.cols);
  widen(a, a_f32.data<float>());
  const RowsTimesTransposed product{
      a_f32.data<float>(), b.data, sums.data<float>(), a.rows, b.cols, a.cols, b.col_stride};
  const auto kernel = b.dtype == DType::f32 ? SIMD_DISPATCH(rows_times_transposed<float>)
                                            : SIMD_DISPATCH(rows_times_transposed<bf16>);
  parallel_for(b.cols, 1 + 65536 / a.cols,
               [&](int64_t begin, int64_t end) { kernel(product, begin, end); });
  finish(sums.data<float>(), c, options);
}

// A long, narrow c (the gradient of LoRA's b) as the transpose of the wide product.
void by_transpose(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options) {
  const Tensor wide = workspace(c.cols, c.rows), narrow = workspace(c.rows, c.cols);
  library_product(b.transposed(), a.transposed(), wide, {});
  const float* from = wide.data<float>();
  float* to = narrow.data<float>();
  parallel_for(c.rows, 1024, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = 0; j < c.cols; ++j) to[i * c.cols + j] = from[j * c.rows + i];
  });
  finish(to, c, options);
}

Matrix block_of(const Matrix& m, int64_t row, int64_t rows, int64_t col, int64_t cols) {
  return m.row_range(row, std::min(m.rows, row + rows)).columns(col, std::min(m.cols, col + cols));
}

// bf16 operands where the processor has no bf16 products: f32 products of converted blocks.
void by_blocks(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options) {
  const Tensor a_f32 = workspace(kBlockRows, kBlockDepth);
  const Tensor b_f32 = workspace(kBlockDepth, kBlockCols);
  const Tensor sums = workspace(kBlockRows, kBlockCols);
  for (int64_t m = 0; m < c.rows; m += kBlockRows) {
    for (int64_t n = 0; n < c.cols; n += kBlockCols) {
      const Matrix c_block = block_of(c, m, kBlockRows, n, kBlockCols);
      Matrix sum = c_block;
      sum.data = sums.raw();
      sum.dtype = DType::f32;
      sum.row_stride = c_block.cols;
      for (int64_t k = 0; k < a.cols; k += kBlockDepth) {
        const Matrix ak = widen(block_of(a, m, kBlockRows, k, kBlockDepth), a_f32.data<float>());
        const Matrix bk = widen(block_of(b, k, kBlockDepth, n, kBlockCols), b_f32.data<float>());
        library_product(ak, bk, sum, {.accumulate = k > 0});
      }
      finish(sums.data<float>(), c_block, options);
    }
  }
}

// A vector whose elements are apart: a column of a matrix. oneDNN 3.7 misreads some of them.
bool is_strided_vector(const Matrix& m) {
  return (m.rows == 1 && m.cols > 1 && m.col_stride != 1) ||
         (m.cols == 1 && m.rows > 1 && m.row_stride != 1);
}

// m itself, or its elements gathered into `storage`.
Matrix contiguous_vector(const Matrix& m, Tensor& storage) {
  if (!is_strided_vector(m)) return m;
  const int64_t n = m.rows * m.cols, stride = m.rows == 1 ? m.col_stride : m.row_stride;
  const size_t size = size_of(m.dtype);
  storage = Tensor::empty({m.rows, m.cols}, m.dtype, {}, MemoryTag::workspace);
  for (int64_t i = 0; i < n; ++i)
    std::memcpy(static_cast<char*>(storage.raw()) + static_cast<size_t>(i) * size,
                static_cast<const char*>(m.data) + static_cast<size_t>(i * stride) * size, size);
  return storage;
}

void with_contiguous_vectors(const Matrix& a, const Matrix& b, const Matrix& c,
                             const MatmulOptions& options) {
  Tensor a_storage, b_storage;
  const Matrix a_close = contiguous_vector(a, a_storage);
  const Matrix b_close = contiguous_vector(b, b_storage);
  if (!is_strided_vector(c)) return cpu::matmul(a_close, b_close, c, options);
  const Tensor sums = workspace(c.rows, c.cols);
  cpu::matmul(a_close, b_close, sums, {});
  finish(sums.data<float>(), c, options);
}

}  // namespace

void matmul(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options) {
  if (a.cols == 0) {
    if (options.accumulate) return;
    for (int64_t i = 0; i < c.rows; ++i)
      std::fill_n(static_cast<char*>(block_of(c, i, 1, 0, c.cols).data),
                  static_cast<size_t>(c.cols) * size_of(c.dtype), char{0});
    return;
  }
  if (is_strided_vector(a) || is_strided_vector(b) || is_strided_vector(c))
    return with_contiguous_vectors(a, b, c, options);
  const bool b_rows_lie_across = b.row_stride == 1 && a.col_stride == 1;
  if (c.rows <= kFewRows && b_rows_lie_across) return few_rows(a, b, c, options);
  if (a.dtype == DType::bf16 && !library_multiplies_bf16()) return by_blocks(a, b, c, options);
  const bool long_and_narrow = c.cols <= kNarrow && c.rows >= 4 * c.cols && a.row_stride == 1;
  if (long_and_narrow) return by_transpose(a, b, c, options);
  library_product(a, b, c, options);
}

}  // namespace weft::ops::cpu
