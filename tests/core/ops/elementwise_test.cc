#include "core/ops/elementwise.h"

#include "tests/support/op_cases.h"

namespace weft::ops {
namespace {

using Doubles = std::vector<double>;

Doubles combine(const Tensor& a, const Tensor& b, double (*f)(double, double)) {
  Doubles x = test::to_doubles(a);
  const Doubles y = test::to_doubles(b);
  for (size_t i = 0; i < x.size(); ++i) x[i] = f(x[i], y[i]);
  return x;
}

class Elementwise : public test::OpTest {
 protected:
  static double number(const Tensor& out) { return test::to_doubles(out)[0]; }
};

TEST_P(Elementwise, AddAndScaleAndDivideRoundTheF32Result) {
  for (int64_t n : {0, 1, 31, 33, 257, 40000}) {
    const Tensor a = test::random_tensor({n}, dtype(), 1), b = test::random_tensor({n}, dtype(), 2);
    const auto sum = [](double x, double y) -> double {
      return static_cast<float>(x) + static_cast<float>(y);
    };
    EXPECT_TRUE(test::same_bytes(add(a, b), test::from_doubles(combine(a, b, sum), {n}, dtype())));
    const auto product = [](double x, double) -> double { return static_cast<float>(x) * 0.3f; };
    const Doubles scaled = combine(a, a, product);
    scale_in_place(a, 0.3f);
    EXPECT_TRUE(test::same_bytes(a, test::from_doubles(scaled, {n}, dtype())));
    const Tensor f = test::random_tensor({n}, DType::f32, 3);
    const auto quotient = [](double x, double y) { return x / y; };
    const Tensor ratio = divide(b, f);
    EXPECT_EQ(ratio.dtype(), DType::f32);
    test::expect_close(ratio, combine(b, f, quotient), 1e-7);
  }
}

TEST_P(Elementwise, AxpyMixesDtypes) {
  for (DType x_type : {DType::f32, DType::bf16, dtype()})
    for (int64_t n : {0, 1, 33, 40000}) {
      const Tensor x = test::random_tensor({n}, x_type, 1),
                   y = test::random_tensor({n}, dtype(), 2);
      const Doubles want = combine(x, y, [](double a, double b) { return b - 1.5 * a; });
      axpy(-1.5f, x, y);
      test::expect_close(y, want, tolerance());
    }
}

// Of arrays that begin anywhere: alike (what is aligned may move by packs) and each elsewhere.
TEST_P(Elementwise, PiecesAreTouchedAloneWhereverTheyBegin) {
  const Tensor a = test::random_tensor({2100}, dtype(), 1);
  const Tensor b = test::random_tensor({2100}, DType::f32, 2);
  for (int64_t begin : {0, 1, 3, 4, 7})
    for (int64_t other : {int64_t{0}, begin, begin + 1})
      for (int64_t n : {1, 5, 8, 12, 2048, 2051}) {
        const Tensor y = a.clone();
        Doubles want = test::to_doubles(y);
        const Doubles x = test::to_doubles(b.flat(other, {n}));
        for (size_t i = 0; i < x.size(); ++i) want[static_cast<size_t>(begin) + i] += 2 * x[i];
        axpy(2, b.flat(other, {n}), y.flat(begin, {n}));
        test::expect_close(y, want, tolerance());
      }
}

TEST_P(Elementwise, SumsDoNotDependOnWhereTheTensorBegins) {
  const Tensor x = test::random_tensor({40007}, dtype(), 1);
  for (int64_t begin : {1, 2, 5}) {
    const Tensor view = x.flat(begin, {40000}), aligned = view.clone();
    const Tensor out = Tensor::empty({1}, DType::f64, device()), want = out.clone();
    sums_of_squares({view}, out);
    sums_of_squares({aligned}, want);
    EXPECT_TRUE(test::same_bytes(out, want)) << begin;
  }
}

TEST_P(Elementwise, SumsAreExactToF64InAFixedOrder) {
  for (int64_t n : {0, 1, 31, 65, 16384, 100003}) {
    const Tensor x = test::random_tensor({n}, dtype(), 1);
    double sum_want = 0, squares_want = 0;
    for (double v : test::to_doubles(x)) sum_want += v, squares_want += v * v;
    const Tensor out = Tensor::empty({1}, DType::f64, device());
    sum(x, out);
    EXPECT_NEAR(number(out), sum_want, 1e-10);
    sums_of_squares({x}, out);
    EXPECT_NEAR(number(out), squares_want, 1e-10 * (1 + squares_want));
  }
  const Tensor x = test::random_tensor({100003}, dtype(), 1);
  test::expect_same_bits_everywhere([&] {
    const Tensor a = Tensor::empty({1}, DType::f64, device()), b = a.clone();
    sum(x, a);
    sums_of_squares({x}, b);
    return std::vector<Tensor>{a, b};
  });
}

TEST_P(Elementwise, SumsPropagateNanAndInfinityFromAnyPlace) {
  const Tensor out = Tensor::empty({1}, DType::f64, device());
  for (size_t at : {0, 63, 64, 16383, 16384, 40000}) {
    Doubles values(40001, 1.0);
    values[at] = NAN;
    sums_of_squares({test::from_doubles(values, {40001}, dtype())}, out);
    EXPECT_TRUE(std::isnan(number(out))) << at;
    values[at] = -INFINITY;
    const Tensor x = test::from_doubles(values, {40001}, dtype());
    sum(x, out);
    EXPECT_EQ(number(out), -INFINITY) << at;
    sums_of_squares({x}, out);
    EXPECT_EQ(number(out), INFINITY) << at;
  }
}

TEST_P(Elementwise, SumOfSquaresDoesNotOverflowF32) {
  const Tensor out = Tensor::empty({1}, DType::f64, device());
  const double value = dtype() == DType::f16 ? 6e4 : 1e30;
  sums_of_squares({test::from_doubles({value, value}, {2}, dtype())}, out);
  EXPECT_NEAR(number(out) / (2 * value * value), 1.0, 0.02);
}

// More tensors than a GPU takes in a launch: empty ones, of odd sizes at odd places, of any dtype.
TEST_P(Elementwise, SumsOfManyTensorsAreTheSameAsOneByOne) {
  const Tensor in_dtype = test::random_tensor({100100}, dtype(), 1);
  const Tensor in_f32 = test::random_tensor({100100}, DType::f32, 2);
  std::vector<Tensor> tensors;
  for (int64_t i = 0; i < 250; ++i) {
    const int64_t n = i % 10 == 0 ? 0 : i % 60 == 7 ? 100003 : i % 60 == 8 ? 16384 : i * 97 % 3001;
    tensors.push_back((i % 3 == 1 ? in_f32 : in_dtype).flat(i % 9, {n}));
  }
  const int64_t count = static_cast<int64_t>(tensors.size());
  test::expect_same_bits_everywhere([&] {
    const Tensor sums = Tensor::empty({count}, DType::f64, device());
    sums_of_squares(tensors, sums);
    return std::vector<Tensor>{sums};
  });
  const Tensor sums = Tensor::empty({count}, DType::f64, device()), want = sums.clone();
  sums_of_squares(tensors, sums);
  for (int64_t i = 0; i < count; ++i) sums_of_squares({tensors[i]}, want.flat(i, {1}));
  EXPECT_TRUE(test::same_bytes(sums, want));
  sums_of_squares({}, Tensor::empty({0}, DType::f64, device()));
}

// As many ranges, apart from each other and side by side.
TEST_P(Elementwise, ZeroWritesTheRangesAlone) {
  constexpr int64_t kElements = 300000;
  const Tensor x = test::random_tensor({kElements}, dtype(), 1);
  const Tensor y = test::random_tensor({kElements}, DType::i32, 2, 1e6);
  Doubles want_x = test::to_doubles(x), want_y = test::to_doubles(y);
  std::vector<Tensor> ranges;
  int64_t at = 1;
  for (int64_t i = 0; i < 500; ++i) {
    const int64_t n = i % 10 == 0 ? 0 : i == 123 ? 100003 : i * 37 % 211;
    const bool of_x = i % 3 != 1;
    ranges.push_back((of_x ? x : y).flat(at, {n}));
    std::fill_n((of_x ? want_x : want_y).begin() + at, n, 0.0);
    at += n + i % 4;
  }
  ASSERT_LT(at, kElements);
  zero(ranges);
  EXPECT_EQ(test::to_doubles(x), want_x);
  EXPECT_EQ(test::to_doubles(y), want_y);
  zero({});
  zero({Tensor::empty({0}, dtype(), device())});
}

TEST_P(Elementwise, FillsWithAValue) {
  for (int64_t n : {0, 1, 100003}) {
    const Tensor x = Tensor::empty({n}, dtype(), device());
    fill(x, 0.375f);
    EXPECT_EQ(test::to_doubles(x), Doubles(static_cast<size_t>(n), 0.375));
  }
}

INSTANTIATE_OP_TESTS(Elementwise);

class Cast : public test::OpTest {};

// The same bits; of a NaN a GPU keeps no more than that it is one.
::testing::AssertionResult same_float(float got, float want) {
  const bool alike = std::bit_cast<uint32_t>(got) == std::bit_cast<uint32_t>(want);
  const bool both_nan = std::isnan(got) && std::isnan(want);
  if (alike || (both_nan && !test::device_of_test().is_cpu())) return testing::AssertionSuccess();
  return testing::AssertionFailure() << got << " is not " << want;
}

// Floats of every kind: each exponent with mantissas around the ties of 16-bit formats.
Tensor interesting_floats() {
  std::vector<uint32_t> bits;
  for (uint32_t sign : {0u, 0x80000000u})
    for (uint32_t exponent = 0; exponent < 256; ++exponent)
      for (uint32_t mantissa :
           {0u, 1u, 0x0fffu, 0x1000u, 0x1001u, 0x2fffu, 0x3000u, 0x7fffu, 0x8000u, 0x8001u,
            0x17fffu, 0x18000u, 0x18001u, 0x400000u, 0x7fe000u, 0x7fefffu, 0x7ff000u, 0x7fffffu})
        bits.push_back(sign | exponent << 23 | mantissa);
  Tensor x = Tensor::empty({static_cast<int64_t>(bits.size())}, DType::f32);
  std::memcpy(x.raw(), bits.data(), x.bytes());
  return x;
}

TEST_P(Cast, ToSixteenBitsRoundsLikeTheScalarTypes) {
  const Tensor x = interesting_floats();
  const Tensor there = x.to(device());
  const Tensor b = cast(there, DType::bf16).to({}), h = cast(there, DType::f16).to({});
  for (int64_t i = 0; i < x.numel(); ++i) {
    const float value = x.data<float>()[i];
    EXPECT_TRUE(same_float(float(b.data<bf16>()[i]), float(bf16(value)))) << value;
    EXPECT_TRUE(same_float(float(h.data<f16>()[i]), float(f16(value)))) << value;
  }
}

TEST_P(Cast, FromSixteenBitsIsExactForEveryPattern) {
  Tensor b = Tensor::empty({65536}, DType::bf16), h = Tensor::empty({65536}, DType::f16);
  for (uint32_t i = 0; i < 65536; ++i)
    b.data<bf16>()[i].bits = h.data<f16>()[i].bits = static_cast<uint16_t>(i);
  const Tensor from_b = cast(b.to(device()), DType::f32).to({});
  const Tensor from_h = cast(h.to(device()), DType::f32).to({});
  for (uint32_t i = 0; i < 65536; ++i) {
    EXPECT_TRUE(same_float(from_b.data<float>()[i], std::bit_cast<float>(i << 16))) << i;
    EXPECT_TRUE(same_float(from_h.data<float>()[i], static_cast<float>(h.data<f16>()[i]))) << i;
  }
  EXPECT_TRUE(test::same_bytes(cast(b.to(device()), DType::bf16), b));
}

INSTANTIATE_OP_TESTS(Cast);

TEST(ElementwiseChecks, RefuseWhatDoesNotFit) {
  const Tensor a = Tensor::zeros({4}, DType::f32), b = Tensor::zeros({5}, DType::f32);
  EXPECT_THROW(add(a, b), Error);
  EXPECT_THROW(axpy(1, a, b), Error);
  EXPECT_THROW(cast(a, b), Error);
  EXPECT_THROW(sum(a, b), Error);
  EXPECT_THROW(add(a, Tensor::zeros({4}, DType::i32)), Error);
  EXPECT_THROW(sums_of_squares({a, b}, Tensor::zeros({1}, DType::f64)), Error);
  EXPECT_THROW(zero({a, Tensor()}), Error);
}

}  // namespace
}  // namespace weft::ops
