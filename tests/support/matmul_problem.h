// Matrix products of random operands in every layout, and what they should be.
#pragma once

#include <numeric>

#include "core/base/cpu_features.h"
#include "core/ops/matmul.h"
#include "core/tensor/device_memory.h"
#include "tests/support/tensors.h"

namespace weft::test {

struct MatmulCase {
  DType in;
  DType out;
  VectorIsa isa;  // avx2: bf16 products by conversion, everywhere
  Device device = {};
};
inline std::string name_of_case(const testing::TestParamInfo<MatmulCase>& info) {
  return fmt::format("{}_to_{}_{}", name_of(info.param.in), name_of(info.param.out),
                     info.param.device.is_cpu() ? name_of(info.param.isa) : "cuda");
}

class MatmulProblem : public testing::TestWithParam<MatmulCase> {
 protected:
  MatmulProblem() {
    set_vector_isa_limit(GetParam().isa);
    device_of_test() = GetParam().device;
  }
  ~MatmulProblem() override {
    set_vector_isa_limit(VectorIsa::avx512);
    device_of_test() = {};
  }
  void SetUp() override {
    if (!GetParam().device.is_cpu() && device_memory::count() == 0)
      GTEST_SKIP() << "needs a GPU: " << device_memory::why_none();
  }

  // Storage of a matrix with `extra` unused elements at the end of each line, in either order.
  struct Operand {
    Tensor storage;
    ops::Matrix view;
  };
  static Operand operand(int64_t rows, int64_t cols, bool transposed, int64_t extra, DType dtype,
                         uint32_t seed) {
    const int64_t lines = transposed ? cols : rows, length = transposed ? rows : cols;
    Operand o{random_tensor({lines, length + extra}, dtype, seed), {}};
    o.view = ops::Matrix(o.storage).columns(0, length);
    if (transposed) o.view = o.view.transposed();
    return o;
  }

  // Rows of m, or of its transpose, one after the other.
  static std::vector<double> dense(const Operand& o, bool of_transpose = false) {
    const std::vector<double> stored = to_doubles(o.storage);
    const ops::Matrix m = of_transpose ? o.view.transposed() : o.view;
    std::vector<double> values;
    values.reserve(static_cast<size_t>(m.rows * m.cols));
    for (int64_t i = 0; i < m.rows; ++i)
      for (int64_t j = 0; j < m.cols; ++j)
        values.push_back(stored[static_cast<size_t>(i * m.row_stride + j * m.col_stride)]);
    return values;
  }

  // The whole storage of c as it should be afterwards; what lies between its rows stays.
  static std::vector<double> reference(const Operand& a, const Operand& b, const Operand& c,
                                       const ops::MatmulOptions& options,
                                       const std::vector<double>& addend = {}) {
    std::vector<double> want = to_doubles(c.storage), bias;
    if (options.bias_N) bias = to_doubles(*options.bias_N);
    const std::vector<double> a_MK = dense(a), b_NK = dense(b, /*of_transpose=*/true);
    const int64_t depth = a.view.cols;
    for (int64_t i = 0; i < c.view.rows; ++i)
      for (int64_t j = 0; j < c.view.cols; ++j) {
        const double* row = a_MK.data() + i * depth;
        const double sum = std::inner_product(row, row + depth, b_NK.data() + j * depth, 0.0);
        double& slot = want[static_cast<size_t>(i * c.view.row_stride + j)];
        slot = options.alpha * sum + (options.accumulate ? slot : 0.0);
        if (!addend.empty()) slot += addend[static_cast<size_t>(i * c.view.cols + j)];
        if (!bias.empty()) slot += bias[static_cast<size_t>(j)];
      }
    return want;
  }

  double tolerance() const {
    const DType out = GetParam().out;
    return out == DType::f32 ? 2e-6 : out == DType::bf16 ? 4e-3 : 6e-4;
  }
};

}  // namespace weft::test
