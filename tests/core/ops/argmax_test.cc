#include "core/ops/argmax.h"

#include "tests/support/op_cases.h"

namespace weft::ops {
namespace {

class Argmax : public test::OpTest {
 protected:
  static std::vector<double> of(const Tensor& x) {
    const Tensor out = Tensor::empty({x.dim(0)}, DType::i32, device());
    argmax(x, out);
    return test::to_doubles(out);
  }
};

TEST_P(Argmax, IsTheLowestPlaceOfTheGreatestForRaggedWidths) {
  for (int64_t rows : {1, 5})
    for (int64_t width : {1, 3, 255, 4096, 4097, 49152, 128259}) {
      std::vector<double> x = test::to_doubles(test::random_tensor({rows, width}, DType::f32, 1));
      for (double& v : x) v = std::round(v * 1000);  // many equal ones
      std::vector<double> want;
      for (int64_t r = 0; r < rows; ++r) {
        const auto row = x.begin() + r * width;
        want.push_back(static_cast<double>(std::max_element(row, row + width) - row));
      }
      EXPECT_EQ(of(test::from_doubles(x, {rows, width}, DType::f32)), want) << width;
    }
}

TEST_P(Argmax, SeesNoNanAndTakesInfinities) {
  const double inf = INFINITY;
  const Tensor x = test::from_doubles({NAN, -inf, -3, NAN,     //
                                       NAN, NAN, NAN, NAN,     //
                                       -inf, -inf, -inf, NAN,  //
                                       NAN, inf, 5, inf},
                                      {4, 4}, DType::f32);
  EXPECT_EQ(of(x), (std::vector<double>{2, 0, 0, 1}));
}

INSTANTIATE_OP_TESTS(Argmax);

}  // namespace
}  // namespace weft::ops
