// Gradients against finite differences.
#pragma once

#include <functional>
#include <vector>

#include "tests/support/tensors.h"

namespace weft::test {

struct GradientCheck {
  double step = 1e-2;       // of central differences; an f32 function needs a large one
  double tolerance = 2e-3;  // of the gradient's largest element (at least 1e-3)
  int64_t samples = 64;     // elements tried, spread evenly
};

// dx (any float dtype) must be the gradient of loss() by x (f32, on any device). `loss` evaluates
// with what x holds at the time; sum what it returns in double.
inline void expect_gradient(const Tensor& x, const Tensor& dx, const std::function<double()>& loss,
                            const std::string& what, const GradientCheck& check = {}) {
  ASSERT_EQ(x.numel(), dx.numel()) << what;
  const std::vector<double> got = to_doubles(dx);
  double largest = 1e-3;
  for (double g : got) largest = std::max(largest, std::abs(g));
  const Tensor host = x.to({});  // x itself where x is on the host
  const auto set = [&](int64_t i, float value) {
    host.data<float>()[i] = value;
    if (!x.device().is_cpu()) x.flat(i, {1}).copy_from(host.flat(i, {1}));
    return value;
  };
  const int64_t stride = std::max<int64_t>(1, x.numel() / check.samples);
  for (int64_t i = 0; i < x.numel(); i += stride) {
    const float kept = host.data<float>()[i];
    const double x_up = set(i, static_cast<float>(kept + check.step)), up = loss();
    const double x_down = set(i, static_cast<float>(kept - check.step)), down = loss();
    set(i, kept);
    const double slope = (up - down) / (x_up - x_down);
    const double g = got[static_cast<size_t>(i)];
    ASSERT_LE(std::abs(slope - g), check.tolerance * largest)
        << what << ": element " << i << " is " << g << ", finite differences say " << slope;
  }
}

// A fixed weighted sum of a tensor, to make a scalar of an op's output: loss = sum w * y.
inline double weighted_sum(const Tensor& y, const Tensor& weights) {
  const std::vector<double> a = to_doubles(y), b = to_doubles(weights);
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace weft::test
