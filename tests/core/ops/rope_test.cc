#include "core/ops/rope.h"

#include "tests/support/gradient_check.h"
#include "tests/support/op_cases.h"

namespace weft::ops {
namespace {

struct Problem {
  Tensor positions, inv_freq, table, x;
  int64_t head_dim = 0, num_heads = 0;
};

// Rows of num_heads heads and, behind them, a v that is not rotated. Positions restart, as in
// packed documents.
Problem make_problem(int64_t tokens, int64_t num_heads, int64_t head_dim, DType dtype) {
  std::vector<double> positions, inv_freq;
  for (int64_t t = 0; t < tokens; ++t) positions.push_back(static_cast<double>(t % 13 * 100));
  for (int64_t i = 0; i < head_dim / 2; ++i)
    inv_freq.push_back(
        std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim)));
  Problem p;
  p.positions = test::from_doubles(positions, {tokens}, DType::i32);
  p.inv_freq = test::from_doubles(inv_freq, {head_dim / 2}, DType::f32);
  p.table = rope_table(p.positions, p.inv_freq);
  p.x = test::random_tensor({tokens, num_heads * head_dim + 7}, dtype, 1);
  p.head_dim = head_dim;
  p.num_heads = num_heads;
  return p;
}

// transformers: q * cos + rotate_half(q) * sin with cos and sin repeated over both halves and
// rotate_half(q) = cat(-q[half:], q[:half]).
std::vector<double> rotated_as_transformers_does(const Problem& p) {
  std::vector<double> x = test::to_doubles(p.x);
  const std::vector<double> positions = test::to_doubles(p.positions);
  const std::vector<double> inv_freq = test::to_doubles(p.inv_freq);
  const int64_t half = p.head_dim / 2, width = p.x.dim(1);
  for (int64_t t = 0; t < p.x.dim(0); ++t)
    for (int64_t head = 0; head < p.num_heads; ++head) {
      double* q = x.data() + t * width + head * p.head_dim;
      std::vector<double> rotate_half(static_cast<size_t>(p.head_dim));
      for (int64_t i = 0; i < half; ++i) {
        rotate_half[static_cast<size_t>(i)] = -q[half + i];
        rotate_half[static_cast<size_t>(half + i)] = q[i];
      }
      for (int64_t i = 0; i < p.head_dim; ++i) {
        const float angle = static_cast<float>(positions[static_cast<size_t>(t)]) *
                            static_cast<float>(inv_freq[static_cast<size_t>(i % half)]);
        q[i] = q[i] * std::cos(static_cast<double>(angle)) +
               rotate_half[static_cast<size_t>(i)] * std::sin(static_cast<double>(angle));
      }
    }
  return x;
}

class Rope : public test::OpTest {};

TEST_P(Rope, IsTheFormulaOfTransformersAndLeavesOtherColumnsAlone) {
  for (int64_t tokens : {0, 1, 40})
    for (int64_t head_dim : {2, 10, 64, 128})
      for (int64_t heads : {0, 1, 12}) {
        const Problem p = make_problem(tokens, heads, head_dim, dtype());
        const std::vector<double> want = rotated_as_transformers_does(p);
        rope({.x = p.x, .table = p.table, .num_heads = heads});
        test::expect_close(p.x, want, tolerance());
      }
}

TEST_P(Rope, InverseRestoresToRounding) {
  const Problem p = make_problem(40, 12, 64, dtype());
  const std::vector<double> before = test::to_doubles(p.x);
  rope({.x = p.x, .table = p.table, .num_heads = 12});
  rope({.x = p.x, .table = p.table, .num_heads = 12, .inverse = true});
  test::expect_close(p.x, before, 2 * tolerance());
}

TEST_P(Rope, GivesTheSameBitsEverywhere) {
  test::expect_same_bits_everywhere([&] {
    const Problem p = make_problem(301, 12, 66, dtype());
    rope({.x = p.x, .table = p.table, .num_heads = 12});
    return std::vector<Tensor>{p.table, p.x};
  });
}

TEST_P(Rope, TableHoldsCosinesThenSinesOfAnF32Angle) {
  const Tensor positions = test::from_doubles({0, 1, 100000}, {3}, DType::i32);
  const Tensor inv_freq = test::from_doubles({1.0, 0.3}, {2}, DType::f32);
  const std::vector<double> table = test::to_doubles(rope_table(positions, inv_freq));
  const double angle = 100000.0f * 0.3f;
  const double allowed = device().is_cpu() ? 1e-7 : 2e-7;  // a GPU's functions err by up to 2 ulp
  EXPECT_NEAR(table[2 * 4 + 1], std::cos(angle), allowed);
  EXPECT_NEAR(table[2 * 4 + 3], std::sin(angle), allowed);
  EXPECT_EQ(table[0], 1.0);
  EXPECT_EQ(table[2], 0.0);
}

TEST_P(Rope, GivesTheSameWhereverItsTensorsBegin) {
  const Problem p = make_problem(40, 12, 64, dtype());
  const Shape shape{40, 12 * 64};
  const Tensor view = test::random_tensor({shape.numel() + 1}, dtype(), 2).flat(1, shape);
  const Tensor own = view.clone();
  rope({.x = view, .table = p.table, .num_heads = 12});
  rope({.x = own, .table = p.table, .num_heads = 12});
  test::expect_close(view, test::to_doubles(own), device().is_cpu() ? 0 : tolerance());
}

INSTANTIATE_OP_TESTS(Rope);

TEST(RopeGradient, OfARotationIsItsInverse) {
  const Problem p = make_problem(3, 2, 10, DType::f32);
  const Tensor dy = test::random_tensor(p.x.shape(), DType::f32, 5);
  const Tensor dx = dy.clone();
  rope({.x = dx, .table = p.table, .num_heads = 2, .inverse = true});
  test::expect_gradient(
      p.x, dx,
      [&] {
        const Tensor y = p.x.clone();
        rope({.x = y, .table = p.table, .num_heads = 2});
        return test::weighted_sum(y, dy);
      },
      "dx");
}

}  // namespace
}  // namespace weft::ops
