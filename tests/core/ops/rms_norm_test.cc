#include "core/ops/rms_norm.h"

#include "tests/support/gradient_check.h"
#include "tests/support/op_cases.h"

namespace weft::ops {
namespace {

constexpr float kEps = 1e-5f;

using Doubles = std::vector<double>;

// Plain loops over one row.
struct RowReference {
  double rstd = 0;
  Doubles y, dx, dweight;

  RowReference(const double* x, const double* weight, const double* dy, int64_t n) {
    double squares = 0, along = 0;
    for (int64_t i = 0; i < n; ++i) squares += x[i] * x[i];
    rstd = 1 / std::sqrt(squares / static_cast<double>(n) + kEps);
    for (int64_t i = 0; i < n; ++i) along += dy[i] * weight[i] * x[i] * rstd;
    for (int64_t i = 0; i < n; ++i) {
      const double xhat = x[i] * rstd;
      y.push_back(xhat * weight[i]);
      dx.push_back(rstd * (dy[i] * weight[i] - xhat * along / static_cast<double>(n)));
      dweight.push_back(dy[i] * xhat);
    }
  }
};

struct Problem {
  Tensor x, dy, weight, dresidual;
  Doubles y, rstd, dx, dweight;  // the reference's; dx with dresidual added
};

Problem make_problem(int64_t tokens, int64_t width, DType dtype, DType weight_type) {
  Problem p{test::random_tensor({tokens, width}, dtype, 1, 3.0),
            test::random_tensor({tokens, width}, dtype, 2),
            test::random_tensor({width}, weight_type, 3, 2.0),
            test::random_tensor({tokens, width}, dtype, 4),
            {},
            {},
            {},
            Doubles(static_cast<size_t>(width))};
  const Doubles x = test::to_doubles(p.x), dy = test::to_doubles(p.dy);
  const Doubles weight = test::to_doubles(p.weight), dresidual = test::to_doubles(p.dresidual);
  for (int64_t t = 0; t < tokens; ++t) {
    const RowReference row(x.data() + t * width, weight.data(), dy.data() + t * width, width);
    p.rstd.push_back(row.rstd);
    p.y.insert(p.y.end(), row.y.begin(), row.y.end());
    for (size_t i = 0; i < row.dx.size(); ++i) {
      p.dx.push_back(row.dx[i] + dresidual[p.dx.size()]);
      p.dweight[i] += row.dweight[i];
    }
  }
  return p;
}

class RmsNorm : public test::OpTest {};

void expect_formula(const Problem& p, double tolerance) {
  const RmsNormResult result = rms_norm(p.x, p.weight, kEps);
  test::expect_close(result.y, p.y, tolerance, "y");
  test::expect_close(result.rstd, p.rstd, 1e-6, "rstd");
  const Tensor dweight = Tensor::zeros(p.weight.shape(), DType::f32, p.x.device());
  const Tensor dx = rms_norm_backward({.dy_TD = p.dy,
                                       .x_TD = p.x,
                                       .weight_D = p.weight,
                                       .rstd_T = result.rstd,
                                       .dresidual_TD = p.dresidual,
                                       .dweight_D = dweight});
  test::expect_close(dx, p.dx, tolerance, "dx");
  test::expect_close(dweight, p.dweight, 4e-6, "dweight");
}

TEST_P(RmsNorm, ForwardAndBackwardAreTheFormula) {
  for (DType weight_type : {DType::f32, dtype()})
    for (int64_t tokens : {0, 1, 70})
      for (int64_t width : {1, 31, 33, 64, 257, 576})
        expect_formula(make_problem(tokens, width, dtype(), weight_type), tolerance());
}

TEST_P(RmsNorm, IsTheFormulaInWideRowsAndInManyRows) {
  for (int64_t width : {8200, 33001, 33024})
    expect_formula(make_problem(3, width, dtype(), dtype()), tolerance());
  expect_formula(make_problem(2100, 1032, dtype(), DType::f32), tolerance());
  expect_formula(make_problem(5000, 8, dtype(), dtype()), tolerance());
}

// Elements [1, ...) of a tensor: a view that no vector load fits, and the same in its own memory.
struct Shifted {
  Tensor view, own;
  Shifted(const Shape& shape, DType dtype, uint32_t seed)
      : view(test::random_tensor({shape.numel() + 1}, dtype, seed).flat(1, shape)),
        own(view.clone()) {}
};

TEST_P(RmsNorm, GivesTheSameBitsWhereverItsTensorsBegin) {
  for (int64_t width : {64, 576, 2048}) {
    const Shifted x({9, width}, dtype(), 1), dy({9, width}, dtype(), 2), w({width}, dtype(), 3);
    const RmsNormResult of_view = rms_norm(x.view, w.view, kEps),
                        of_own = rms_norm(x.own, w.own, kEps);
    EXPECT_TRUE(test::same_bytes(of_view.rstd, of_own.rstd)) << width;
    EXPECT_TRUE(test::same_bytes(of_view.y, of_own.y)) << width;
    EXPECT_TRUE(test::same_bytes(rms_norm_rebuild(x.view, w.own, of_own.rstd), of_own.y)) << width;
    const Tensor dw_view = Tensor::zeros({width}, DType::f32, device()), none;
    const Tensor dw_own = Tensor::zeros({width}, DType::f32, device());
    const Tensor dx_view =
        rms_norm_backward({dy.view, x.view, w.view, of_view.rstd, none, dw_view});
    const Tensor dx_own = rms_norm_backward({dy.own, x.own, w.own, of_own.rstd, none, dw_own});
    test::expect_close(dx_view, test::to_doubles(dx_own), tolerance());
    test::expect_close(dw_view, test::to_doubles(dw_own), 1e-6);
  }
}

TEST_P(RmsNorm, FusedAddIsAddThenNormBitForBit) {
  const Tensor x = test::random_tensor({19, 577}, dtype(), 1);
  const Tensor residual = test::random_tensor({19, 577}, dtype(), 2);
  const Tensor weight = test::random_tensor({577}, dtype(), 3);
  const AddRmsNormResult fused = add_rms_norm(x, residual, weight, kEps);
  Doubles sum = test::to_doubles(x);
  const Doubles r = test::to_doubles(residual);
  for (size_t i = 0; i < sum.size(); ++i)
    sum[i] = static_cast<float>(sum[i]) + static_cast<float>(r[i]);
  EXPECT_TRUE(test::same_bytes(fused.sum, test::from_doubles(sum, x.shape(), dtype())));
  const RmsNormResult plain = rms_norm(fused.sum, weight, kEps);
  EXPECT_TRUE(test::same_bytes(fused.y, plain.y));
  EXPECT_TRUE(test::same_bytes(fused.rstd, plain.rstd));
}

TEST_P(RmsNorm, RebuildGivesTheForwardsBits) {
  for (int64_t width : {1, 33, 576}) {
    const Problem p = make_problem(23, width, dtype(), dtype());
    const RmsNormResult result = rms_norm(p.x, p.weight, kEps);
    EXPECT_TRUE(test::same_bytes(rms_norm_rebuild(p.x, p.weight, result.rstd), result.y));
  }
}

TEST_P(RmsNorm, BackwardAccumulatesDweightInItsDtypeAndWorksWithoutOptionalTensors) {
  const Problem p = make_problem(40, 33, dtype(), dtype());
  const RmsNormResult result = rms_norm(p.x, p.weight, kEps);
  const Tensor dweight = test::random_tensor({33}, dtype(), 9), none;
  Doubles want = test::to_doubles(dweight), want_dx = p.dx;
  const Doubles dresidual = test::to_doubles(p.dresidual);
  for (size_t i = 0; i < want.size(); ++i) want[i] += p.dweight[i];
  for (size_t i = 0; i < want_dx.size(); ++i) want_dx[i] -= dresidual[i];
  const Tensor dx = rms_norm_backward({p.dy, p.x, p.weight, result.rstd, none, dweight});
  test::expect_close(dweight, want, tolerance(), "dweight");
  test::expect_close(dx, want_dx, tolerance(), "dx");
  EXPECT_TRUE(
      test::same_bytes(rms_norm_backward({p.dy, p.x, p.weight, result.rstd, none, none}), dx));
}

TEST_P(RmsNorm, GivesTheSameBitsEverywhere) {
  const Problem p = make_problem(301, 577, dtype(), dtype());
  test::expect_same_bits_everywhere([&] {
    const RmsNormResult result = rms_norm(p.x, p.weight, kEps);
    const Tensor dweight = Tensor::zeros({577}, DType::f32, device());
    const Tensor dx = rms_norm_backward({p.dy, p.x, p.weight, result.rstd, p.dresidual, dweight});
    return std::vector<Tensor>{result.y, result.rstd, dx, dweight};
  });
}

INSTANTIATE_OP_TESTS(RmsNorm);

TEST(RmsNormGradient, AgreesWithFiniteDifferences) {
  const Problem p = make_problem(3, 33, DType::f32, DType::f32);
  const RmsNormResult result = rms_norm(p.x, p.weight, kEps);
  const Tensor dweight = Tensor::zeros({33}, DType::f32), none;
  const Tensor dx = rms_norm_backward({p.dy, p.x, p.weight, result.rstd, none, dweight});
  const auto loss = [&] { return test::weighted_sum(rms_norm(p.x, p.weight, kEps).y, p.dy); };
  test::expect_gradient(p.x, dx, loss, "dx");
  test::expect_gradient(p.weight, dweight, loss, "dweight");
}

}  // namespace
}  // namespace weft::ops
