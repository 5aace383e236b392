#include <array>
#include <tuple>

#include "tests/support/matmul_problem.h"

namespace weft::ops {
namespace {

using test::name_of_case;
using Case = test::MatmulCase;

class MatmulWithThin : public test::MatmulProblem {
 protected:
  // c = a b + thin products (+ 1: another matrix, 2: a bias, 3: c itself).
  template <class ThinAt>
  void check_thin(std::array<int64_t, 3> sizes, bool rows_of_b, int added, size_t thins,
                  ThinAt thin_at) {
    const auto [M, N, K] = sizes;
    const DType dtype = GetParam().in;
    const Operand a = operand(M, K, false, 0, dtype, 1), b = operand(K, N, !rows_of_b, 8, dtype, 2);
    const Operand c = operand(M, N, false, 8, GetParam().out, 3);
    const Operand addend = operand(M, N, false, 0, GetParam().out, 4);
    const Tensor bias = test::random_tensor({N}, dtype, 5);
    MatmulOptions options{.accumulate = added == 3,
                          .addend = added == 1 ? &addend.view : nullptr,
                          .bias_N = added == 2 ? &bias : nullptr};
    std::vector<double> want =
        reference(a, b, c, options, added == 1 ? dense(addend) : std::vector<double>());
    std::vector<Operand> kept;
    for (size_t i = 0; i < thins; ++i) {
      const auto [column, columns, ranks] = thin_at(i);
      const Operand h = operand(M, ranks, false, 0, dtype, 6 + static_cast<uint32_t>(i));
      const Operand w = operand(ranks, columns, !rows_of_b, 0, dtype, 9 + static_cast<uint32_t>(i));
      const std::vector<double> h_MR = dense(h), w_NR = dense(w, /*of_transpose=*/true);
      for (int64_t row = 0; row < M; ++row)
        for (int64_t j = 0; j < columns; ++j)
          want[static_cast<size_t>(row * c.view.row_stride + column + j)] +=
              std::inner_product(h_MR.data() + row * ranks, h_MR.data() + (row + 1) * ranks,
                                 w_NR.data() + j * ranks, 0.0);
      options.thin.push_back({.a = h.view, .b = w.view, .column = column});
      kept.push_back(h);
      kept.push_back(w);
    }
    if (GetParam().in != GetParam().out) {
      EXPECT_THROW(matmul(a.view, b.view, c.view, options), Error);
      return;
    }
    matmul(a.view, b.view, c.view, options);
    test::expect_close(c.storage, want, static_cast<double>(2 + thins) * tolerance(),
                       fmt::format("M {} N {} K {} thin {} rows of b {} added {}", M, N, K, thins,
                                   rows_of_b, added));
  }
};

TEST_P(MatmulWithThin, AddsThinProductsToTheColumnsThatTheyName) {
  struct Thin {
    int64_t column, columns, ranks;
  };
  // Wide enough for tiles of a GPU, and small; whole and ragged; members side by side, one over
  // another (dx of several As), and with a gap.
  for (const auto& [M, N, K] : {std::tuple{300, 520, 72}, {257, 192, 200}, {5, 24, 16}})
    for (const std::vector<Thin>& thins :
         std::vector<std::vector<Thin>>{{{0, N, 16}},
                                        {{0, 8, 8}, {8, N - 16, 16}, {N - 8, 8, 80}},
                                        {{0, N, 8}, {0, N, 24}},
                                        {{8, 8, 5}},
                                        {{0, N, 0}}})
      for (const bool rows_of_b : {false, true})
        for (const int added : {0, 1, 2, 3})
          check_thin({M, N, K}, rows_of_b, added, thins.size(), [&](size_t i) {
            return std::tuple{thins[i].column, thins[i].columns, thins[i].ranks};
          });
}

// Of each height of tile three turns and more for each pair of 132 SMs: both warpgroups multiply,
// skip each other's tiles, and take a second addend.
TEST_P(MatmulWithThin, AddsThinProductsOverManyTurns) {
  if (GetParam().device.is_cpu()) GTEST_SKIP() << "turns are of GPUs";
  for (const auto& [M, N] : {std::pair{1521, 4872}, {1447, 4872}, {966, 5688}})
    for (const bool rows_of_b : {false, true})
      for (const int added : {0, 1})
        check_thin({M, N, 72}, rows_of_b, added, 2, [&](size_t i) {
          const int64_t half = 2448, columns = i == 0 ? half : N - half;
          return std::tuple{i == 0 ? int64_t{0} : half, columns, int64_t{16}};
        });
}

// Deeper than the products that a GPU's own kernel takes.
TEST_P(MatmulWithThin, AddsThinProductsToDeepOnes) {
  constexpr int64_t M = 260, N = 136, K = 8200;
  for (const bool rows_of_b : {false, true})
    for (const int added : {0, 1})
      check_thin({M, N, K}, rows_of_b, added, 1, [](size_t) {
        return std::tuple{int64_t{0}, int64_t{N}, int64_t{16}};
      });
}

INSTANTIATE_TEST_SUITE_P(Cpu, MatmulWithThin,
                         testing::Values(Case{DType::f32, DType::f32, VectorIsa::avx512},
                                         Case{DType::bf16, DType::bf16, VectorIsa::avx512},
                                         Case{DType::bf16, DType::f32, VectorIsa::avx512}),
                         name_of_case);

#ifdef WEFT_HAS_CUDA
constexpr Device kGpu{DeviceKind::cuda, 0};
INSTANTIATE_TEST_SUITE_P(Gpu, MatmulWithThin,
                         testing::Values(Case{DType::f32, DType::f32, VectorIsa::avx512, kGpu},
                                         Case{DType::bf16, DType::bf16, VectorIsa::avx512, kGpu},
                                         Case{DType::f16, DType::f16, VectorIsa::avx512, kGpu}),
                         name_of_case);
#endif

}  // namespace
}  // namespace weft::ops
