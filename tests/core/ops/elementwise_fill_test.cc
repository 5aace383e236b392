// The random fills of elementwise.h.
#include "core/ops/elementwise.h"
#include "tests/support/op_cases.h"

namespace weft::ops {
namespace {

Tensor normals(int64_t n, int64_t first, DType dtype = DType::f32, std::string_view name = "w") {
  const Tensor x = Tensor::empty({n}, dtype, test::device_of_test());
  fill_normal(x, {.seed = 1, .name = name, .first_index = first});
  return x;
}

Tensor uniforms(int64_t n, int64_t first, DType dtype = DType::f32) {
  const Tensor x = Tensor::empty({n}, dtype, test::device_of_test());
  fill_uniform(x, {.seed = 1, .name = "w", .first_index = first, .low = -2, .high = 3});
  return x;
}

using Doubles = std::vector<double>;

class Fill : public test::OpTest {};

TEST_P(Fill, InPiecesGivesTheSameAsAtOnce) {
  const Tensor whole = normals(1000, 0, dtype()), whole_uniform = uniforms(1000, 0, dtype());
  for (int64_t piece : {1, 3, 63, 64, 65, 333})
    for (int64_t begin = 0; begin < 1000; begin += piece) {
      const int64_t n = std::min<int64_t>(piece, 1000 - begin);
      EXPECT_TRUE(test::same_bytes(normals(n, begin, dtype()), whole.flat(begin, {n})));
      EXPECT_TRUE(test::same_bytes(uniforms(n, begin, dtype()), whole_uniform.flat(begin, {n})));
    }
}

TEST_P(Fill, GivesTheSameBitsEverywhere) {
  test::expect_same_bits_everywhere([&] {
    return std::vector<Tensor>{normals(100003, 17, dtype()), uniforms(100003, 17, dtype())};
  });
}

TEST_P(Fill, OfNothingIsNothing) {
  EXPECT_EQ(normals(0, 5, dtype()).numel(), 0);
}

TEST_P(Fill, GivesTheBitsOfTheCpu) {
  for (int64_t first : {int64_t{0}, int64_t{17}, int64_t{1} << 40}) {
    const Tensor normal = normals(100003, first, dtype());
    const Tensor uniform = uniforms(100003, first, dtype());
    test::device_of_test() = {};
    const Doubles want_normal = test::to_doubles(normals(100003, first));
    const Doubles want_uniform = test::to_doubles(uniforms(100003, first));
    EXPECT_TRUE(test::same_bytes(normal, test::from_doubles(want_normal, {100003}, dtype())));
    EXPECT_TRUE(test::same_bytes(uniform, test::from_doubles(want_uniform, {100003}, dtype())));
    test::device_of_test() = device();
  }
}

INSTANTIATE_OP_TESTS(Fill);

// Computed apart from this code, in Python: what a seed means never changes.
TEST(FillValues, AreFrozen) {
  const double want[] = {0.2518459865602211, 0.6756269597348811, -0.700937641680848,
                         0.5082703785985079};
  const Tensor x = normals(4, 0);
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(x.data<float>()[i], want[i], 1e-6) << i;
  EXPECT_NEAR(normals(1, 1000000007).data<float>()[0], -1.0322239753866036, 2e-6);
  const double unit[] = {0.7710908055305481, 0.19321280717849731, 0.6874087452888489,
                         0.40014731884002686};
  const Tensor u = uniforms(4, 0);
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(u.data<float>()[i], -2 + 5 * unit[i], 1e-6) << i;
}

TEST(FillValues, DependOnSeedAndName) {
  EXPECT_FALSE(test::same_bytes(normals(64, 0), normals(64, 0, DType::f32, "v")));
  const Tensor other = Tensor::empty({64}, DType::f32);
  fill_normal(other, {.seed = 2, .name = "w"});
  EXPECT_FALSE(test::same_bytes(normals(64, 0), other));
}

TEST(FillValues, ContinueBeyond32BitCounters) {
  const int64_t far = int64_t{1} << 40;
  EXPECT_TRUE(test::same_bytes(normals(10, far + 90), normals(100, far).flat(90, {10})));
  EXPECT_FALSE(test::same_bytes(normals(64, far), normals(64, 0)));
}

TEST(FillDistribution, NormalHasItsMomentsTailsAndNoCorrelation) {
  constexpr int64_t kCount = 4000000;
  const Tensor x = Tensor::empty({kCount}, DType::f32);
  fill_normal(x, {.seed = 3, .name = "w", .mean = 0.5f, .std = 2});
  double sum = 0, squares = 0, fourth = 0, neighbours = 0, beyond[6] = {}, previous = 0;
  for (int64_t i = 0; i < kCount; ++i) {
    const double z = (x.data<float>()[i] - 0.5) / 2;
    sum += z;
    squares += z * z;
    fourth += z * z * z * z;
    neighbours += z * previous;
    previous = z;
    for (int s = 1; s < 6; ++s) beyond[s] += std::abs(z) > s;
  }
  const double n = kCount, error = 5 / std::sqrt(n);
  EXPECT_NEAR(sum / n, 0, error);
  EXPECT_NEAR(squares / n, 1, error * std::sqrt(2));
  EXPECT_NEAR(fourth / n, 3, error * std::sqrt(96));
  EXPECT_NEAR(neighbours / n, 0, error);
  for (int s = 1; s < 6; ++s) {
    const double p = std::erfc(s / std::sqrt(2));
    EXPECT_NEAR(beyond[s], n * p, 5 * std::sqrt(n * p) + 3) << s << " sigma";
  }
}

TEST(FillDistribution, UniformFillsItsRangeEvenly) {
  const Tensor x = uniforms(1000000, 0);
  std::vector<double> bins(50);
  for (int64_t i = 0; i < x.numel(); ++i) {
    const float value = x.data<float>()[i];
    ASSERT_GE(value, -2.0f);
    ASSERT_LE(value, 3.0f);
    ++bins[std::min<size_t>(49, static_cast<size_t>((value + 2) * 10))];
  }
  for (double count : bins) EXPECT_NEAR(count, 20000, 5 * std::sqrt(20000));
}

}  // namespace
}  // namespace weft::ops
