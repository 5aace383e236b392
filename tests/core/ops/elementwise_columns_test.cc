// The ops of elementwise.h on views of columns.
#include "core/ops/elementwise.h"
#include "tests/support/gradient_check.h"
#include "tests/support/op_cases.h"

namespace weft::ops {
namespace {

using Doubles = std::vector<double>;

// Columns [begin, end) of a wider tensor.
struct View {
  Tensor storage;
  int64_t begin = 0, end = 0;
  Matrix matrix() const { return columns(storage, begin, end); }
  int64_t width() const { return storage.dim(1); }
};

View view_of(int64_t rows, int64_t cols, DType dtype, uint32_t seed) {
  return {test::random_tensor({rows, cols + 8}, dtype, seed), 3, 3 + cols};
}
// The same, of rows and columns that begin at multiples of 16 bytes.
View aligned_view_of(int64_t rows, int64_t cols, DType dtype, uint32_t seed) {
  return {test::random_tensor({rows, (cols + 23) / 8 * 8}, dtype, seed), 8, 8 + cols};
}

class Columns : public test::OpTest {
 protected:
  // f(row, column, element) for the elements of the view.
  template <class F>
  static void visit(const View& v, Doubles& values, const F& f) {
    for (int64_t t = 0; t < v.storage.dim(0); ++t)
      for (int64_t j = v.begin; j < v.end; ++j)
        f(t, static_cast<size_t>(j - v.begin), values[static_cast<size_t>(t * v.width() + j)]);
  }
  static std::vector<std::pair<int64_t, int64_t>> sizes() {
    std::vector<std::pair<int64_t, int64_t>> result;
    for (int64_t rows : {0, 1, 45})
      for (int64_t cols : {1, 31, 33, 257, 576}) result.push_back({rows, cols});
    return result;
  }
};

TEST_P(Columns, VectorOpsTouchOnlyTheView) {
  for (DType vector_type : {DType::f32, dtype()})
    for (const auto& [rows, cols] : sizes()) {
      const View y = view_of(rows, cols, dtype(), 1);
      const Tensor vector = test::random_tensor({cols}, vector_type, 2);
      const Doubles b = test::to_doubles(vector);
      Doubles want = test::to_doubles(y.storage);
      visit(y, want, [&](int64_t, size_t j, double& value) { value += b[j]; });
      add_bias(y.matrix(), vector);
      test::expect_close(y.storage, want, tolerance(), "add_bias");
      want = test::to_doubles(y.storage);
      visit(y, want, [&](int64_t, size_t j, double& value) { value *= b[j]; });
      scale_columns(y.matrix(), vector);
      test::expect_close(y.storage, want, tolerance(), "scale_columns");
    }
}

TEST_P(Columns, SumsAccumulateOverRows) {
  for (DType out_type : {DType::f32, dtype()})
    for (const auto& [rows, cols] : sizes()) {
      const View a = view_of(rows, cols, dtype(), 1), b = view_of(rows, cols, dtype(), 2);
      const Tensor dbias = test::random_tensor({cols}, out_type, 3), dot = dbias.clone();
      Doubles bias_want = test::to_doubles(dbias), dot_want = bias_want;
      Doubles values = test::to_doubles(a.storage);
      const Doubles others = test::to_doubles(b.storage);
      visit(a, values, [&](int64_t t, size_t j, double& value) {
        bias_want[j] += value;
        dot_want[j] += value * others[static_cast<size_t>(t * b.width() + b.begin) + j];
      });
      bias_backward(a.matrix(), dbias);
      column_dot(a.matrix(), b.matrix(), dot);
      const double bound = out_type == DType::f32 ? 1e-6 : tolerance();
      test::expect_close(dbias, bias_want, bound, "bias_backward");
      test::expect_close(dot, dot_want, bound, "column_dot");
    }
}

TEST_P(Columns, CopyMovesAView) {
  for (const auto& [rows, cols] : sizes()) {
    const View from = view_of(rows, cols, dtype(), 1), to = view_of(rows, cols, dtype(), 2);
    Doubles want = test::to_doubles(to.storage);
    const Doubles source = test::to_doubles(from.storage);
    visit(to, want, [&](int64_t t, size_t j, double& value) {
      value = source[static_cast<size_t>(t * from.width() + from.begin) + j];
    });
    copy(from.matrix(), to.matrix());
    EXPECT_EQ(test::to_doubles(to.storage), want);
  }
}

TEST_P(Columns, RowNormsAreEuclidean) {
  for (const auto& [rows, cols] : sizes()) {
    const Tensor w = test::random_tensor({rows, cols}, dtype(), 1);
    const Doubles values = test::to_doubles(w);
    Doubles want;
    for (int64_t n = 0; n < rows; ++n) {
      double squares = 0;
      for (int64_t k = 0; k < cols; ++k)
        squares +=
            values[static_cast<size_t>(n * cols + k)] * values[static_cast<size_t>(n * cols + k)];
      want.push_back(std::sqrt(squares));
    }
    test::expect_close(row_norms(w), want, 1e-6);
  }
}

// What may move by packs gives what single elements give, ragged last columns included.
TEST_P(Columns, OfAlignedViewsGiveTheSameBits) {
  for (const auto& [rows, cols] : sizes()) {
    const View a = view_of(rows, cols, dtype(), 1), b = view_of(rows, cols, dtype(), 2);
    const View p = aligned_view_of(rows, cols, dtype(), 3),
               q = aligned_view_of(rows, cols, dtype(), 4);
    const Tensor vector = test::random_tensor({cols}, DType::f32, 5);
    copy(a.matrix(), p.matrix());
    copy(b.matrix(), q.matrix());
    const Tensor untouched = p.storage.clone();
    const auto sums = [&](const View& x, const View& y) {
      const Tensor bias = vector.clone(), dot = vector.clone();
      bias_backward(x.matrix(), bias);
      column_dot(x.matrix(), y.matrix(), dot);
      return std::pair(bias, dot);
    };
    const auto [bias, dot] = sums(a, b);
    const auto [packed_bias, packed_dot] = sums(p, q);
    EXPECT_TRUE(test::same_bytes(bias, packed_bias)) << rows << " x " << cols;
    EXPECT_TRUE(test::same_bytes(dot, packed_dot)) << rows << " x " << cols;
    for (const View& x : {a, p}) {
      add_bias(x.matrix(), vector);
      scale_columns(x.matrix(), vector);
    }
    copy(a.matrix(), q.matrix());
    Doubles want = test::to_doubles(untouched);
    const Doubles changed = test::to_doubles(q.storage);
    visit(p, want, [&](int64_t t, size_t j, double& value) {
      value = changed[static_cast<size_t>(t * q.width() + q.begin) + j];
    });
    EXPECT_EQ(test::to_doubles(p.storage), want) << rows << " x " << cols;
  }
}

TEST_P(Columns, CopyMovesEveryDtype) {
  for (DType any : {DType::f32, DType::i32}) {
    const Tensor from = test::random_tensor({5, 19}, any, 1, 1000);
    const Tensor to = Tensor::zeros({5, 19}, any, device());
    copy(columns(from, 2, 18), columns(to, 2, 18));
    copy(columns(from, 0, 2), columns(to, 0, 2));
    copy(columns(from, 18, 19), columns(to, 18, 19));
    EXPECT_TRUE(test::same_bytes(from, to)) << name_of(any);
  }
}

TEST_P(Columns, GiveTheSameBitsEverywhere) {
  const View a = view_of(1001, 577, dtype(), 1), b = view_of(1001, 577, dtype(), 2);
  test::expect_same_bits_everywhere([&] {
    const Tensor dbias = Tensor::zeros({577}, DType::f32, device()), dot = dbias.clone();
    bias_backward(a.matrix(), dbias);
    column_dot(a.matrix(), b.matrix(), dot);
    return std::vector<Tensor>{dbias, dot, row_norms(a.storage)};
  });
}

INSTANTIATE_OP_TESTS(Columns);

TEST(ColumnsGradient, OfBiasAndMagnitudeAgreeWithFiniteDifferences) {
  const View x = view_of(9, 17, DType::f32, 1), dy = view_of(9, 17, DType::f32, 2);
  const Tensor bias = test::random_tensor({17}, DType::f32, 3);
  const Tensor dbias = Tensor::zeros({17}, DType::f32), dscale = Tensor::zeros({17}, DType::f32);
  bias_backward(dy.matrix(), dbias);
  column_dot(dy.matrix(), x.matrix(), dscale);
  // The loss weighs the view only: outside of it, x does not depend on the vector.
  const auto loss_of = [&](void (*op)(const Matrix&, const Tensor&)) {
    const View y{x.storage.clone(), x.begin, x.end};
    op(y.matrix(), bias);
    return test::weighted_sum(y.storage, dy.storage);
  };
  test::expect_gradient(
      bias, dbias, [&] { return loss_of(add_bias); }, "dbias");
  test::expect_gradient(
      bias, dscale, [&] { return loss_of(scale_columns); }, "dscale");
}

TEST(ColumnsChecks, RefuseWhatDoesNotFit) {
  const Tensor y = Tensor::zeros({3, 4}, DType::f32);
  EXPECT_THROW(add_bias(y, Tensor::zeros({5}, DType::f32)), Error);
  EXPECT_THROW(add_bias(transposed(y), Tensor::zeros({3}, DType::f32)), Error);
  EXPECT_THROW(copy(y, Tensor::zeros({3, 4}, DType::bf16)), Error);
  EXPECT_THROW(scale_columns(y, Tensor::zeros({4}, DType::bf16)), Error);
}

}  // namespace
}  // namespace weft::ops
