#include "core/ops/dropout.h"

#include <numeric>

#include "core/base/rng.h"
#include "core/ops/elementwise.h"
#include "tests/support/op_cases.h"

namespace weft::ops {
namespace {

struct Tokens {
  Tensor samples;    // i64, on the CPU
  Tensor positions;  // i32
};

// Tokens first .. first + count of a stream where every 10 tokens are a sample.
Tokens tokens_of(int64_t first, int64_t count) {
  Tokens tokens{Tensor::empty({count}, DType::i64), Tensor::empty({count}, DType::i32)};
  for (int64_t t = 0; t < count; ++t) {
    tokens.samples.data<int64_t>()[t] = (first + t) / 10 + (int64_t{1} << 40);
    tokens.positions.data<int32_t>()[t] = static_cast<int32_t>((first + t) % 10);
  }
  return tokens;
}

Tensor drop(const Tensor& x, const Tokens& tokens, float p, uint64_t step = 3) {
  const Tensor samples = tokens.samples.to(x.device());
  const Tensor positions = tokens.positions.to(x.device());
  return dropout({.x_TD = x,
                  .sample_ids_T = samples,
                  .positions_T = positions,
                  .seed = 1,
                  .step = step,
                  .site = 7,
                  .p = p});
}

Tensor ones(int64_t tokens, int64_t width, DType dtype) {
  return test::from_doubles(std::vector<double>(static_cast<size_t>(tokens * width), 1.0),
                            {tokens, width}, dtype);
}

class Dropout : public test::OpTest {
 protected:
  static void accumulate(int64_t width);
};

void Dropout::accumulate(int64_t width) {
  const Tokens tokens = tokens_of(0, 9);
  const Tensor x = test::random_tensor({9, width}, dtype(), 1);
  const Tensor y = test::random_tensor({9, width}, dtype(), 2);
  std::vector<double> want = test::to_doubles(y);
  const std::vector<double> add = test::to_doubles(drop(x, tokens, 0.5f));
  for (size_t i = 0; i < want.size(); ++i) want[i] += add[i];
  const Tensor samples = tokens.samples.to(device()), positions = tokens.positions.to(device());
  dropout_accumulate({.x_TD = x,
                      .sample_ids_T = samples,
                      .positions_T = positions,
                      .seed = 1,
                      .step = 3,
                      .site = 7,
                      .p = 0.5f},
                     y);
  test::expect_close(y, want, tolerance());
}

TEST_P(Dropout, DropsWhatPhiloxSaysAndScalesTheRest) {
  for (int64_t count : {0, 1, 23})
    for (int64_t width : {1, 31, 33, 64, 257, 576}) {
      const Tokens tokens = tokens_of(5, count);
      const Tensor x = test::random_tensor({count, width}, dtype(), 1);
      std::vector<double> want = test::to_doubles(x);
      const PhiloxKey key = philox_key(mix(mix(1, 3), 7));
      for (int64_t t = 0; t < count; ++t)
        for (int64_t i = 0; i < width; ++i) {
          const auto sample = static_cast<uint64_t>(tokens.samples.data<int64_t>()[t]);
          const PhiloxCounter draws =
              philox({static_cast<uint32_t>(i / 4),
                      static_cast<uint32_t>(tokens.positions.data<int32_t>()[t]),
                      static_cast<uint32_t>(sample), static_cast<uint32_t>(sample >> 32)},
                     key);
          double& value = want[static_cast<size_t>(t * width + i)];
          value = to_unit_float(draws[static_cast<size_t>(i % 4)]) < 0.3f ? 0 : value / 0.7;
        }
      test::expect_close(drop(x, tokens, 0.3f), want, tolerance());
    }
}

TEST_P(Dropout, AccumulateAddsTheSameMask) {
  for (int64_t width : {77, 80}) accumulate(width);
}

TEST_P(Dropout, MaskFollowsTheTokenNotItsRow) {
  const Tensor whole = drop(ones(40, 65, dtype()), tokens_of(0, 40), 0.4f);
  for (int64_t begin = 0; begin < 40; begin += 8) {
    const Tensor part = drop(ones(8, 65, dtype()), tokens_of(begin, 8), 0.4f);
    EXPECT_TRUE(test::same_bytes(part, whole.rows(begin, begin + 8)));
  }
}

// Where the mask is the CPU's to the bit, so is the result: dropped or scaled and rounded once.
TEST_P(Dropout, GivesTheBitsOfTheCpu) {
  for (int64_t width : {577, 576}) {
    const Tensor x = test::random_tensor({301, width}, dtype(), 1);
    const Tensor wide = cast(x, DType::f32).to({});
    const Tensor want = drop(wide, tokens_of(0, 301), 0.1f);
    test::device_of_test() = {};
    const Tensor rounded = test::from_doubles(test::to_doubles(want), {301, width}, dtype());
    EXPECT_TRUE(test::same_bytes(drop(x, tokens_of(0, 301), 0.1f), rounded));
    test::device_of_test() = device();
  }
}

TEST_P(Dropout, OfNothingIsTheIdentity) {
  const Tensor x = test::random_tensor({7, 33}, dtype(), 1);
  EXPECT_TRUE(test::same_bytes(drop(x, tokens_of(0, 7), 0.0f), x));
}

TEST_P(Dropout, GivesTheSameBitsEverywhere) {
  const Tensor x = test::random_tensor({301, 577}, dtype(), 1);
  test::expect_same_bits_everywhere(
      [&] { return std::vector<Tensor>{drop(x, tokens_of(0, 301), 0.1f)}; });
}

INSTANTIATE_OP_TESTS(Dropout);

// Computed apart from this code, in Python.
TEST(DropoutMask, IsFrozen) {
  Tokens tokens = tokens_of(0, 1);
  tokens.samples.data<int64_t>()[0] = 123456789012;
  tokens.positions.data<int32_t>()[0] = 31;
  const Tensor y = dropout({.x_TD = ones(1, 24, DType::f32),
                            .sample_ids_T = tokens.samples,
                            .positions_T = tokens.positions,
                            .seed = 5,
                            .step = 9,
                            .site = 77,
                            .p = 0.3f});
  std::vector<int> dropped;
  for (int i = 0; i < 24; ++i)
    if (y.data<float>()[i] == 0) dropped.push_back(i);
  EXPECT_EQ(dropped, (std::vector<int>{1, 4, 5, 10, 12, 13, 17, 18}));
}

TEST(DropoutMask, DropsItsShareAndDiffersByStep) {
  const Tensor x = ones(1000, 1000, DType::f32);
  const std::vector<double> a = test::to_doubles(drop(x, tokens_of(0, 1000), 0.1f, 1));
  const std::vector<double> b = test::to_doubles(drop(x, tokens_of(0, 1000), 0.1f, 2));
  double dropped = 0, both = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    dropped += a[i] == 0;
    both += a[i] == 0 && b[i] == 0;
  }
  EXPECT_NEAR(dropped / 1e6, 0.1, 5 * std::sqrt(0.1 * 0.9 / 1e6));
  EXPECT_NEAR(both / 1e6, 0.01, 5 * std::sqrt(0.01 * 0.99 / 1e6));
}

}  // namespace
}  // namespace weft::ops
