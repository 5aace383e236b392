#include "core/ops/swiglu.h"

#include "tests/support/gradient_check.h"
#include "tests/support/op_cases.h"

namespace weft::ops {
namespace {

class Swiglu : public test::OpTest {};

TEST_P(Swiglu, ForwardAndBackwardAreTheFormula) {
  for (int64_t tokens : {0, 1, 19})
    for (int64_t width : {1, 31, 33, 257, 576}) {
      const Tensor gate_up = test::random_tensor({tokens, 2 * width}, dtype(), 1, 8.0);
      const Tensor dy = test::random_tensor({tokens, width}, dtype(), 2);
      const std::vector<double> x = test::to_doubles(gate_up), d = test::to_doubles(dy);
      std::vector<double> y(d.size()), dx(x.size());
      for (int64_t t = 0; t < tokens; ++t)
        for (int64_t i = 0; i < width; ++i) {
          const auto gate_at = static_cast<size_t>(t * 2 * width + i);
          const size_t up_at = gate_at + static_cast<size_t>(width);
          const auto y_at = static_cast<size_t>(t * width + i);
          const double gate = x[gate_at], s = 1 / (1 + std::exp(-gate));
          y[y_at] = gate * s * x[up_at];
          dx[gate_at] = d[y_at] * x[up_at] * s * (1 + gate * (1 - s));
          dx[up_at] = d[y_at] * gate * s;
        }
      test::expect_close(swiglu(gate_up), y, tolerance(), "y");
      test::expect_close(swiglu_backward(dy, gate_up.clone()), dx, tolerance(), "dgate_up");
    }
}

TEST_P(Swiglu, GivesTheSameBitsEverywhere) {
  const Tensor gate_up = test::random_tensor({301, 2 * 577}, dtype(), 1, 20.0);
  const Tensor dy = test::random_tensor({301, 577}, dtype(), 2);
  test::expect_same_bits_everywhere([&] {
    return std::vector<Tensor>{swiglu(gate_up), swiglu_backward(dy, gate_up.clone())};
  });
}

TEST_P(Swiglu, GivesTheSameWhereverItsTensorsBegin) {
  const Shape wide{9, 2 * 64}, narrow{9, 64};
  const Tensor gate_up = test::random_tensor({wide.numel() + 1}, dtype(), 1, 8.0).flat(1, wide);
  const Tensor dy = test::random_tensor({narrow.numel() + 1}, dtype(), 2).flat(1, narrow);
  test::expect_close(swiglu(gate_up), test::to_doubles(swiglu(gate_up.clone())), tolerance());
  test::expect_close(swiglu_backward(dy, gate_up.clone()),
                     test::to_doubles(swiglu_backward(dy.clone(), gate_up.clone())), tolerance());
}

// silu of f32 values: y with up = 1.
std::vector<double> silu_of(const std::vector<double>& gates) {
  std::vector<double> gate_up;
  for (double gate : gates) gate_up.insert(gate_up.end(), {gate, 1.0});
  const auto rows = static_cast<int64_t>(gates.size());
  return test::to_doubles(swiglu(test::from_doubles(gate_up, {rows, 2}, DType::f32)));
}

TEST_P(Swiglu, IsAFewUlpWhereverTheResultIsNormal) {
  const double ulps = device().is_cpu() ? 4.0 : 6.0;  // a GPU's e^x and division are not exact
  std::vector<double> gates;
  for (float gate = -80; gate < 90; gate += 0.0173f) gates.push_back(gate);
  const std::vector<double> got = silu_of(gates);
  for (size_t i = 0; i < gates.size(); ++i) {
    const double want = gates[i] / (1 + std::exp(-gates[i]));
    EXPECT_NEAR(got[i], want, std::abs(want) * ulps * 0x1p-23) << gates[i];
  }
}

TEST_P(Swiglu, FarFromZeroIsTheLimit) {
  const std::vector<double> got = silu_of({1e30f, INFINITY, -1000, 0});
  EXPECT_EQ(got[0], 1e30f);
  EXPECT_EQ(got[1], INFINITY);
  EXPECT_NEAR(got[2], 0.0, 1e-30);
  EXPECT_EQ(got[3], 0.0);
}

TEST_P(Swiglu, NanStaysNanForwardAndBackward) {
  EXPECT_TRUE(std::isnan(silu_of({NAN})[0]));
  const Tensor gate_up = test::from_doubles({NAN, 1.0, 1.0, NAN}, {2, 2}, DType::f32);
  const std::vector<double> dx = test::to_doubles(
      swiglu_backward(test::from_doubles({1.0, 1.0}, {2, 1}, DType::f32), gate_up.clone()));
  EXPECT_TRUE(std::isnan(dx[0]));
  EXPECT_TRUE(std::isnan(dx[1]));
  EXPECT_TRUE(std::isnan(dx[2]));
}

INSTANTIATE_OP_TESTS(Swiglu);

TEST(SwigluGradient, AgreesWithFiniteDifferences) {
  const Tensor gate_up = test::random_tensor({3, 2 * 33}, DType::f32, 1, 3.0);
  const Tensor dy = test::random_tensor({3, 33}, DType::f32, 2);
  test::expect_gradient(
      gate_up, swiglu_backward(dy, gate_up.clone()),
      [&] { return test::weighted_sum(swiglu(gate_up), dy); }, "dgate_up");
}

}  // namespace
}  // namespace weft::ops
