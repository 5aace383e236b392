#include "core/ops/matmul.h"

#include <thread>

#include "core/base/threads.h"
#include "core/ops/product_algorithms.h"
#include "tests/support/matmul_problem.h"

namespace weft::ops {
namespace {

using test::name_of_case;
using Case = test::MatmulCase;

class Matmul : public test::MatmulProblem {
 protected:
  void check(int64_t M, int64_t N, int64_t K, bool ta, bool tb, int64_t extra,
             const MatmulOptions& options) {
    const Operand a = operand(M, K, ta, extra, GetParam().in, 1);
    const Operand b = operand(K, N, tb, extra, GetParam().in, 2);
    const Operand c = operand(M, N, false, extra, GetParam().out, 3);
    const std::vector<double> want = reference(a, b, c, options);
    matmul(a.view, b.view, c.view, options);
    // On a GPU the library may round the product before it adds c.
    const double roundings = options.accumulate && !GetParam().device.is_cpu() ? 2 : 1;
    test::expect_close(c.storage, want, (roundings + !!options.bias_N) * tolerance(),
                       fmt::format("M {} N {} K {} ta {} tb {} extra {} alpha {} acc {} bias {}", M,
                                   N, K, ta, tb, extra, options.alpha, options.accumulate,
                                   options.bias_N ? name_of(options.bias_N->dtype()) : "none"));
  }

  // c = alpha a b + another matrix (+ bias), both with unused elements between their rows.
  void check_added(int64_t M, int64_t N, int64_t K, int64_t extra, MatmulOptions options) {
    const Operand a = operand(M, K, false, extra, GetParam().in, 1);
    const Operand b = operand(K, N, true, 0, GetParam().in, 2);
    const Operand c = operand(M, N, false, 2, GetParam().out, 3);
    const Operand addend = operand(M, N, false, extra, GetParam().out, 4);
    const std::vector<double> before = test::to_doubles(addend.storage);
    const std::vector<double> want = reference(a, b, c, options, dense(addend));
    options.addend = &addend.view;
    matmul(a.view, b.view, c.view, options);
    const double roundings = options.bias_N || !GetParam().device.is_cpu() ? 2 : 1;
    test::expect_close(c.storage, want, roundings * tolerance(),
                       fmt::format("M {} N {} K {} extra {} + addend", M, N, K, extra));
    EXPECT_EQ(test::to_doubles(addend.storage), before);
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

TEST_P(Matmul, AddsAnotherMatrixOfAnyRowStrideInTheSameSum) {
  for (int64_t M : {1, 7, 33, 257})
    for (int64_t N : {1, 16, 33})
      for (int64_t K : {0, 1, 40})
        for (int64_t extra : {0, 3}) check_added(M, N, K, extra, {.alpha = -0.5f});
}

TEST_P(Matmul, AddsABiasToEachRow) {
  for (DType dtype : {DType::f32, GetParam().out})
    for (int64_t M : {1, 7, 33, 257})
      for (int64_t N : {1, 8, 16, 33})
        for (int64_t K : {0, 1, 40}) {
          const Tensor bias = test::random_tensor({N}, dtype, 5);
          for (bool accumulate : {false, true})
            check(M, N, K, false, true, M % 3, {.accumulate = accumulate, .bias_N = &bias});
          check_added(M, N, K, 1, {.bias_N = &bias});
        }
}

TEST_P(Matmul, ABiasMayBeginAnywhere) {
  const Tensor all = test::random_tensor({100}, GetParam().out, 5);
  for (int64_t begin : {0, 1, 3, 8}) {
    const Tensor bias = all.rows(begin, begin + 48);
    check(64, 48, 32, false, true, 0, {.bias_N = &bias});
  }
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
  EXPECT_THROW(matmul(a.view, b.view, c.view, {.addend = &a.view}), Error);
  EXPECT_THROW(matmul(a.view, b.view, c.view, {.addend = &c.view}), Error);
  const Operand addend = operand(4, 5, false, 0, GetParam().out, 4);
  EXPECT_THROW(matmul(a.view, b.view, c.view, {.accumulate = true, .addend = &addend.view}), Error);
  const Tensor bias = test::random_tensor({4}, GetParam().out, 5);
  EXPECT_THROW(matmul(a.view, b.view, c.view, {.bias_N = &bias}), Error);
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

#ifdef WEFT_HAS_CUDA
// What a run does: products of a warm-up are timed, the table goes through text, and is used.
class TimedMatmul : public Matmul {
 protected:
  ~TimedMatmul() override { use_product_table({}); }

  // Every layout, way of adding and bias; the results one after the other.
  static std::vector<Tensor> products(int64_t less = 0) {
    struct Sizes {
      int64_t M, N, K;
    };
    std::vector<Tensor> results;
    for (Sizes s : {Sizes{512, 384, 256}, {500, 576, 1536}, {96, 16, 4096}, {7, 33, 5}}) {
      for (int64_t* size : {&s.M, &s.N, &s.K}) *size = std::max<int64_t>(1, *size - less);
      const Tensor bias = test::random_tensor({s.N}, GetParam().out, 5);
      const Operand addend = operand(s.M, s.N, false, 8, GetParam().out, 4);
      for (int layout = 0; layout < 4; ++layout)
        for (const MatmulOptions& options :
             {MatmulOptions{}, {.accumulate = true}, {.addend = &addend.view}, {.bias_N = &bias}}) {
          const Operand a = operand(s.M, s.K, layout & 1, 0, GetParam().in, 1);
          const Operand b = operand(s.K, s.N, layout & 2, 0, GetParam().in, 2);
          const Operand c = operand(s.M, s.N, false, 0, GetParam().out, 3);
          matmul(a.view, b.view, c.view, options);
          results.push_back(c.storage.to({}));
        }
    }
    return results;
  }
  static ProductTable time_products() {
    TimeProducts timing({});
    products();
    return timing.met();
  }
  static void expect_alike(const std::vector<Tensor>& got, const std::vector<Tensor>& want,
                           double tolerance) {
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i)
      test::expect_close(got[i], test::to_doubles(want[i]), tolerance,
                         fmt::format("product {}", i));
  }
  static bool same_bits(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), test::same_bytes);
  }
};

TEST_P(TimedMatmul, ComputesTheSameToRoundingAndTheSameBitsFromTheStoredTable) {
  const std::vector<Tensor> guessed = products();
  EXPECT_TRUE(same_bits(products(), guessed));
  ProductTable table;
  {
    TimeProducts timing({});
    expect_alike(products(), guessed, 2 * tolerance());
    EXPECT_GT(timing.timed(), 0);
    table = timing.met();
    EXPECT_EQ(timing.timed(), static_cast<int>(table.size()));
  }
  const std::vector<Tensor> timed = products();
  expect_alike(timed, guessed, 2 * tolerance());
  for (int repeat = 0; repeat < 5; ++repeat) EXPECT_TRUE(same_bits(products(), timed));

  use_product_table({});
  EXPECT_TRUE(same_bits(products(), guessed));
  const ProductLibrary library = product_library(GetParam().device);
  const ProductText stored = parse_product_text(to_text(library, table), "text");
  EXPECT_EQ(stored.library, library);
  use_product_table(stored.table);
  EXPECT_TRUE(same_bits(products(), timed));
}

TEST_P(TimedMatmul, WhatIsKnownIsNotTimedAgain) {
  const ProductTable table = time_products();
  TimeProducts again(table);
  products();
  EXPECT_EQ(again.timed(), 0);
  EXPECT_EQ(again.met(), table);
}

// Sizes that the table rounds to those that were timed; odd ones have rows that begin anywhere.
TEST_P(TimedMatmul, NearbySizesAreRightToo) {
  const ProductTable table = time_products();
  for (int64_t less : {1, 2, 8}) {
    use_product_table({});
    const std::vector<Tensor> guessed = products(less);
    use_product_table(table);
    expect_alike(products(less), guessed, 2 * tolerance());
  }
}

TEST_P(TimedMatmul, Tf32RoundsOperandsOfF32ProductsOnly) {
  const std::vector<Tensor> exact = products();
  allow_tf32(true);
  const std::vector<Tensor> got = products();
  allow_tf32(false);
  expect_alike(got, exact, 2e-3);
  EXPECT_EQ(same_bits(got, exact), GetParam().in != DType::f32);
}

INSTANTIATE_TEST_SUITE_P(Gpu, TimedMatmul,
                         testing::Values(Case{DType::f32, DType::f32, VectorIsa::avx512, kGpu},
                                         Case{DType::bf16, DType::bf16, VectorIsa::avx512, kGpu},
                                         Case{DType::bf16, DType::f32, VectorIsa::avx512, kGpu}),
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
