#include "core/ops/adapter_input_gradient.h"

#include "core/ops/matmul.h"
#include "core/ops/rms_norm.h"
#include "tests/support/gradient_check.h"
#include "tests/support/op_cases.h"

namespace weft::ops {
namespace {

// dh is columns [first, first + ranks) of a wider matrix.
struct Problem {
  Tensor wide_dh, x, da;
  NormedInput normed;
  int64_t first, ranks;

  Problem(int64_t tokens, int64_t width, int64_t of_ranks, DType dtype, DType grad_dtype,
          DType weight_dtype, int64_t at = 0)
      : wide_dh(test::random_tensor({tokens, at + of_ranks + 8}, dtype, 1)),
        x(test::random_tensor({tokens, width}, dtype, 2, 4.0)),
        da(test::random_tensor({of_ranks, width}, grad_dtype, 3)),
        first(at),
        ranks(of_ranks) {
    const Tensor weight = test::random_tensor({width}, weight_dtype, 4);
    normed = {x, weight, rms_norm(x, weight, 1e-5f).rstd};
  }

  Matrix dh() const { return columns(wide_dh, first, first + ranks); }
  void run(bool of_norm) const {
    adapter_input_gradient({.dh_TR = dh(),
                            .x_TK = of_norm ? Tensor() : x,
                            .normed = of_norm ? normed : NormedInput(),
                            .da_RK = da});
  }
  // da += dh^T x in f64, of x as it is stored.
  std::vector<double> want(bool of_norm) const {
    const Tensor input = of_norm ? rms_norm_rebuild(x, normed.weight_K, normed.rstd_T) : x;
    const std::vector<double> d = test::to_doubles(wide_dh), v = test::to_doubles(input);
    std::vector<double> sums = test::to_doubles(da);
    const int64_t tokens = x.dim(0), width = x.dim(1), stride = wide_dh.dim(1);
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t r = 0; r < ranks; ++r)
        for (int64_t k = 0; k < width; ++k)
          sums[static_cast<size_t>(r * width + k)] +=
              d[static_cast<size_t>(t * stride + first + r)] *
              v[static_cast<size_t>(t * width + k)];
    return sums;
  }
};

double tolerance_of(const Tensor& da) {
  return da.dtype() == DType::f32 ? 4e-5 : da.dtype() == DType::bf16 ? 5e-3 : 7e-4;
}

class AdapterInputGradient : public test::OpTest {
 protected:
  void expect_sums(const Problem& p, const std::string& what) {
    for (bool of_norm : {false, true}) {
      const std::vector<double> want = p.want(of_norm);
      p.run(of_norm);
      test::expect_close(p.da, want, tolerance_of(p.da), what + (of_norm ? ", of a norm" : ""));
    }
  }
};

TEST_P(AdapterInputGradient, AreSumsOverTokensForRaggedTokensAndColumns) {
  for (int64_t tokens : {0, 1, 37, 128, 300})
    for (int64_t width : {8, 136, 264})
      for (int64_t ranks : {8, 16, 24, 48})
        expect_sums(Problem(tokens, width, ranks, dtype(), DType::f32, dtype()),
                    fmt::format("[{} x {}], R {}", tokens, width, ranks));
}

TEST_P(AdapterInputGradient, TakeColumnsOfAWiderDhAndWeightsAndGradientsOfEitherDtype) {
  for (DType weights : {dtype(), DType::f32})
    for (DType gradients : {dtype(), DType::f32})
      expect_sums(Problem(140, 136, 16, dtype(), gradients, weights, /*at=*/32), "ranks at 32");
}

TEST_P(AdapterInputGradient, WorkOnWhatTheOnePassDoesNotTake) {
  expect_sums(Problem(70, 37, 16, dtype(), DType::f32, dtype()), "37 columns");
  expect_sums(Problem(70, 64, 5, dtype(), DType::f32, dtype()), "rank 5");
  expect_sums(Problem(70, 64, 128, dtype(), DType::f32, dtype()), "rank 128");
  expect_sums(Problem(70, 64, 16, dtype(), DType::f32, dtype(), /*at=*/3), "ranks at 3");
}

TEST_P(AdapterInputGradient, SumOverManySlabs) {
  expect_sums(Problem(5000, 136, 16, dtype(), DType::f32, dtype()), "R 16");
  expect_sums(Problem(2500, 264, 64, dtype(), DType::f32, dtype()), "R 64");
}

TEST_P(AdapterInputGradient, GoRoundTheRingOfTiles) {
  if (device().is_cpu()) GTEST_SKIP() << "tiles are of GPUs";
  expect_sums(Problem(17000, 392, 16, dtype(), DType::f32, dtype()), "R 16");
  expect_sums(Problem(1128, 5640, 64, dtype(), DType::f32, dtype()), "R 64");
}

TEST_P(AdapterInputGradient, OfANormHaveTheBitsOfItsOutput) {
  for (DType weights : {dtype(), DType::f32}) {
    const Problem p(700, 264, 32, dtype(), DType::f32, weights);
    const Tensor before = p.da.clone(), y = rms_norm(p.x, p.normed.weight_K, 1e-5f).y;
    p.run(/*of_norm=*/true);
    const Tensor got = p.da.clone();
    p.da.copy_from(before);
    adapter_input_gradient({.dh_TR = p.dh(), .x_TK = y, .normed = {}, .da_RK = p.da});
    EXPECT_TRUE(test::same_bytes(got, p.da)) << name_of(weights);
  }
}

TEST_P(AdapterInputGradient, GiveTheSameBitsTwice) {
  const Problem p(1500, 392, 48, dtype(), dtype(), dtype());
  const Tensor before = p.da.clone();
  p.run(true);
  const Tensor want = p.da.clone();
  for (int repeat = 0; repeat < 3; ++repeat) {
    p.da.copy_from(before);
    p.run(true);
    EXPECT_TRUE(test::same_bytes(p.da, want));
  }
}

// loss = sum of dh * (x A^T).
TEST_P(AdapterInputGradient, AreTheSlopesOfTheForward) {
  if (dtype() != DType::f32) GTEST_SKIP() << "finite differences are for f32";
  const Tensor x = test::random_tensor({9, 16}, dtype(), 1);
  const Tensor a = test::random_tensor({8, 16}, dtype(), 2);
  const Tensor dh = test::random_tensor({9, 8}, dtype(), 3);
  const Tensor da = Tensor::zeros(a.shape(), dtype(), device());
  adapter_input_gradient({.dh_TR = dh, .x_TK = x, .normed = {}, .da_RK = da});
  test::expect_gradient(
      a, da,
      [&] {
        const Tensor h = Tensor::empty(dh.shape(), dtype(), device());
        matmul(x, transposed(a), h);
        return test::weighted_sum(h, dh);
      },
      "da");
}

INSTANTIATE_OP_TESTS(AdapterInputGradient);

}  // namespace
}  // namespace weft::ops
