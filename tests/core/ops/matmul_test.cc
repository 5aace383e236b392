#include "core/ops/matmul.h"

#include <numeric>
#include <thread>

#include "core/base/cpu_features.h"
#include "core/base/threads.h"
#include "core/tensor/device_memory.h"
#include "tests/support/tensors.h"

namespace weft::ops {
namespace {

struct Case {
  DType in;
  DType out;
  VectorIsa isa;  // avx2: bf16 products by conversion, everywhere
  Device device = {};
};
std::string name_of_case(const testing::TestParamInfo<Case>& info) {
  return fmt::format("{}_to_{}_{}", name_of(info.param.in), name_of(info.param.out),
                     info.param.device.is_cpu() ? name_of(info.param.isa) : "cuda");
}

class Matmul : public testing::TestWithParam<Case> {
 protected:
  Matmul() {
    set_vector_isa_limit(GetParam().isa);
    test::device_of_test() = GetParam().device;
  }
  ~Matmul() override {
    set_vector_isa_limit(VectorIsa::avx512);
    test::device_of_test() = {};
  }
  void SetUp() override {
    if (!GetParam().device.is_cpu() && device_memory::count() == 0)
      GTEST_SKIP() << "needs a GPU: " << device_memory::why_none();
  }

  // Storage of a matrix with `extra` unused elements at the end of each line, in either order.
  struct Operand {
    Tensor storage;
    Matrix view;
  };
  static Operand operand(int64_t rows, int64_t cols, bool transposed, int64_t extra, DType dtype,
                         uint32_t seed) {
    const int64_t lines = transposed ? cols : rows, length = transposed ? rows : cols;
    Operand o{test::random_tensor({lines, length + extra}, dtype, seed), {}};
    o.view = Matrix(o.storage).columns(0, length);
    if (transposed) o.view = o.view.transposed();
    return o;
  }

  // Rows of m, or of its transpose, one after the other.
  static std::vector<double> dense(const Operand& o, bool of_transpose = false) {
    const std::vector<double> stored = test::to_doubles(o.storage);
    const Matrix m = of_transpose ? o.view.transposed() : o.view;
    std::vector<double> values;
    values.reserve(static_cast<size_t>(m.rows * m.cols));
    for (int64_t i = 0; i < m.rows; ++i)
      for (int64_t j = 0; j < m.cols; ++j)
        values.push_back(stored[static_cast<size_t>(i * m.row_stride + j * m.col_stride)]);
    return values;
  }

  // The whole storage of c as it should be afterwards; what lies between its rows stays.
  static std::vector<double> reference(const Operand& a, const Operand& b, const Operand& c,
                                       const MatmulOptions& options) {
    std::vector<double> want = test::to_doubles(c.storage);
    const std::vector<double> a_MK = dense(a), b_NK = dense(b, /*of_transpose=*/true);
    const int64_t depth = a.view.cols;
    for (int64_t i = 0; i < c.view.rows; ++i)
      for (int64_t j = 0; j < c.view.cols; ++j) {
        const double* row = a_MK.data() + i * depth;
        const double sum = std::inner_product(row, row + depth, b_NK.data() + j * depth, 0.0);
        double& slot = want[static_cast<size_t>(i * c.view.row_stride + j)];
        slot = options.alpha * sum + (options.accumulate ? slot : 0.0);
      }
    return want;
  }

  double tolerance() const {
    const DType out = GetParam().out;
    return out == DType::f32 ? 2e-6 : out == DType::bf16 ? 4e-3 : 6e-4;
  }

  void check(int64_t M, int64_t N, int64_t K, bool ta, bool tb, int64_t extra,
             const MatmulOptions& options) {
    const Operand a = operand(M, K, ta, extra, GetParam().in, 1);
    const Operand b = operand(K, N, tb, extra, GetParam().in, 2);
    const Operand c = operand(M, N, false, extra, GetParam().out, 3);
    const std::vector<double> want = reference(a, b, c, options);
    matmul(a.view, b.view, c.view, options);
    // On a GPU the library may round the product before it adds c.
    const double roundings = options.accumulate && !GetParam().device.is_cpu() ? 2 : 1;
    test::expect_close(c.storage, want, roundings * tolerance(),
                       fmt::format("M {} N {} K {} ta {} tb {} extra {} alpha {} acc {}", M, N, K,
                                   ta, tb, extra, options.alpha, options.accumulate));
  }
};

TEST_P(Matmul, EqualsPlainLoopsForEveryLayoutAndRaggedShape) {
  for (int64_t M : {1, 3, 8, 9, 31, 257})
    for (int64_t N : {1, 16, 33, 257})
      for (int64_t K : {1, 16, 31, 100})
        for (int layout = 0; layout < 4; ++layout) check(M, N, K, layout & 1, layout & 2, 0, {});
}

TEST_P(Matmul, ScalesAndAccumulates) {
  for (int64_t M : {1, 2, 33})
    for (int64_t N : {5, 64})
      for (int layout = 0; layout < 4; ++layout)
        for (float alpha : {1.0f, -0.5f})
          for (bool accumulate : {false, true})
            check(M, N, 40, layout & 1, layout & 2, 0, {alpha, accumulate});
}

TEST_P(Matmul, WorksOnColumnRangesAndLeavesTheRestAlone) {
  for (int64_t M : {1, 6, 33, 300})
    for (int64_t N : {1, 7, 64})
      for (int layout = 0; layout < 4; ++layout)
        for (int64_t K : {1, 48}) check(M, N, K, layout & 1, layout & 2, 5, {1.0f, true});
}

TEST_P(Matmul, SumsMoreThanABlockOfRowsColumnsAndDepth) {
  check(300, 600, 1100, false, true, 0, {});
  check(300, 600, 1100, true, false, 3, {0.25f, true});
}

TEST_P(Matmul, LongNarrowResultsEqualPlainLoops) {
  for (bool accumulate : {false, true}) check(576, 16, 100, true, false, 2, {2.0f, accumulate});
}

TEST_P(Matmul, EmptySizesGiveZerosOrNothing) {
  check(0, 5, 3, false, false, 0, {});
  check(5, 0, 3, false, false, 0, {});
  check(5, 3, 0, false, false, 1, {});
  check(5, 3, 0, false, false, 1, {1.0f, true});
}

TEST_P(Matmul, TheSameCallGivesTheSameBits) {
  for (int64_t M : {1, 4, 100}) {
    const Operand a = operand(M, 300, false, 0, GetParam().in, 1);
    const Operand b = operand(300, 500, true, 0, GetParam().in, 2);
    const Operand first = operand(M, 500, false, 0, GetParam().out, 3);
    const Operand again = operand(M, 500, false, 0, GetParam().out, 3);
    matmul(a.view, b.view, first.view, {1.0f, true});
    matmul(a.view, b.view, again.view, {1.0f, true});
    EXPECT_TRUE(test::same_bytes(first.storage, again.storage)) << "M " << M;
  }
}

TEST_P(Matmul, ThreadsThatMultiplyAtOnceDoNotDisturbEachOther) {
  const Operand a = operand(70, 90, false, 0, GetParam().in, 1);
  const Operand b = operand(90, 110, true, 0, GetParam().in, 2);
  const Operand want = operand(70, 110, false, 0, GetParam().out, 3);
  set_num_threads(1);
  matmul(a.view, b.view, want.view);
  std::vector<Operand> got;
  for (int t = 0; t < 4; ++t) got.push_back(operand(70, 110, false, 0, GetParam().out, 4));
  std::vector<std::thread> threads;
  for (const Operand& c : got)
    threads.emplace_back([&, view = c.view] {
      set_num_threads(1);
      for (int i = 0; i < 50; ++i) matmul(a.view, b.view, view);
    });
  for (std::thread& t : threads) t.join();
  set_num_threads(2);
  for (const Operand& c : got) EXPECT_TRUE(test::same_bytes(c.storage, want.storage));
}

TEST_P(Matmul, NanAndInfinityReachTheResult) {
  for (int64_t M : {1, 8}) {
    const Operand random = operand(M, 40, false, 0, GetParam().in, 1);
    std::vector<double> values = test::to_doubles(random.storage);
    values[3] = NAN;
    const Tensor a = test::from_doubles(values, random.storage.shape(), GetParam().in);
    const Operand b = operand(40, 8, true, 0, GetParam().in, 2);
    const Operand c = operand(M, 8, false, 0, GetParam().out, 3);
    matmul(a, b.view, c.view);
    const std::vector<double> got = dense(c);
    for (size_t j = 0; j < 8; ++j) EXPECT_TRUE(std::isnan(got[j]));
  }
}

TEST_P(Matmul, RefusesShapesAndDTypesThatDoNotFit) {
  const Operand a = operand(4, 6, false, 0, GetParam().in, 1);
  const Operand b = operand(6, 5, false, 0, GetParam().in, 2);
  const Operand c = operand(4, 5, false, 0, GetParam().out, 3);
  EXPECT_THROW(matmul(a.view, a.view, c.view), Error);
  EXPECT_THROW(matmul(a.view, b.view, b.view), Error);
  EXPECT_THROW(matmul(a.view, b.view, operand(4, 5, true, 0, GetParam().out, 3).view), Error);
  const Tensor whole = Tensor::zeros({6, 5}, DType::i32, GetParam().device);
  EXPECT_THROW(matmul(a.view, whole, c.view), Error);
}

INSTANTIATE_TEST_SUITE_P(Cpu, Matmul,
                         testing::Values(Case{DType::f32, DType::f32, VectorIsa::avx512},
                                         Case{DType::bf16, DType::bf16, VectorIsa::avx512},
                                         Case{DType::bf16, DType::f32, VectorIsa::avx512},
                                         Case{DType::f32, DType::f32, VectorIsa::avx2},
                                         Case{DType::bf16, DType::bf16, VectorIsa::avx2},
                                         Case{DType::bf16, DType::f32, VectorIsa::baseline}),
                         name_of_case);

#ifdef WEFT_HAS_CUDA
constexpr Device kGpu{DeviceKind::cuda, 0};
INSTANTIATE_TEST_SUITE_P(Gpu, Matmul,
                         testing::Values(Case{DType::f32, DType::f32, VectorIsa::avx512, kGpu},
                                         Case{DType::bf16, DType::bf16, VectorIsa::avx512, kGpu},
                                         Case{DType::bf16, DType::f32, VectorIsa::avx512, kGpu},
                                         Case{DType::f16, DType::f16, VectorIsa::avx512, kGpu},
                                         Case{DType::f16, DType::f32, VectorIsa::avx512, kGpu}),
                         name_of_case);
#endif

TEST(Matrix, ViewsAreColumnAndRowRangesOfTheSameMemory) {
  const Tensor t = test::random_tensor({4, 6}, DType::bf16, 1);
  const Matrix m = Matrix(t).columns(2, 5).row_range(1, 3).transposed();
  EXPECT_EQ(m.rows, 3);
  EXPECT_EQ(m.cols, 2);
  EXPECT_EQ(m.data, t.data<bf16>() + 1 * 6 + 2);
  EXPECT_EQ(m.row_stride, 1);
  EXPECT_EQ(m.col_stride, 6);
  EXPECT_THROW(columns(t, 3, 7), Error);
  EXPECT_THROW(Matrix(t).row_range(2, 1), Error);
}

}  // namespace
}  // namespace weft::ops
