#include "core/ops/qk_norm_rope.h"

#include "core/ops/rms_norm.h"
#include "core/ops/rope.h"
#include "tests/support/gradient_check.h"
#include "tests/support/op_cases.h"

namespace weft::ops {
namespace {

constexpr float kEps = 1e-5f;

using Doubles = std::vector<double>;

struct Sizes {
  int64_t tokens = 0, num_heads = 0, num_kv_heads = 0, head_dim = 0;
  int64_t turned() const { return num_heads + num_kv_heads; }
  int64_t width() const { return (turned() + num_kv_heads) * head_dim; }
};

struct Problem {
  Sizes sizes;
  Tensor qkv, table, q_weight, k_weight, dy;

  QkNormRopeArgs args() const {
    return {qkv, table, q_weight, k_weight, sizes.num_heads, sizes.num_kv_heads, kEps};
  }
};

// Positions restart, as in packed documents.
Tensor table_of(int64_t tokens, int64_t head_dim) {
  Doubles positions, inv_freq;
  for (int64_t t = 0; t < tokens; ++t) positions.push_back(static_cast<double>(t % 13 * 100));
  for (int64_t i = 0; i < head_dim / 2; ++i)
    inv_freq.push_back(
        std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim)));
  return rope_table(test::from_doubles(positions, {tokens}, DType::i32),
                    test::from_doubles(inv_freq, {head_dim / 2}, DType::f32));
}

Problem make_problem(const Sizes& sizes, DType dtype, DType weight_type) {
  return {sizes,
          test::random_tensor({sizes.tokens, sizes.width()}, dtype, 1, 3.0),
          table_of(sizes.tokens, sizes.head_dim),
          test::random_tensor({sizes.head_dim}, weight_type, 2, 2.0),
          test::random_tensor({sizes.head_dim}, weight_type, 3, 2.0),
          test::random_tensor({sizes.tokens, sizes.width()}, dtype, 4)};
}

struct Gradients {
  Tensor dqkv, dq_weight, dk_weight;
};
// With fresh sums of f32.
Gradients backward(const Problem& p, const Tensor& rstd) {
  const auto sums = [&] { return Tensor::zeros(p.q_weight.shape(), DType::f32, p.qkv.device()); };
  Gradients g{p.dy.clone(), sums(), sums()};
  qk_norm_rope_backward({g.dqkv, p.args(), rstd, g.dq_weight, g.dk_weight});
  return g;
}

// Plain loops in double.
struct Reference {
  Doubles y, rstd, dx, dq_weight, dk_weight;

  explicit Reference(const Problem& p)
      : y(test::to_doubles(p.qkv)),
        dx(test::to_doubles(p.dy)),
        dq_weight(static_cast<size_t>(p.sizes.head_dim)),
        dk_weight(dq_weight) {
    const Doubles table = test::to_doubles(p.table);
    const Doubles q_weight = test::to_doubles(p.q_weight), k_weight = test::to_doubles(p.k_weight);
    for (int64_t t = 0; t < p.sizes.tokens; ++t)
      for (int64_t head = 0; head < p.sizes.turned(); ++head) {
        const int64_t at = t * p.sizes.width() + head * p.sizes.head_dim;
        const double* angles = table.data() + t * p.sizes.head_dim;
        const bool is_q = head < p.sizes.num_heads;
        do_head(y.data() + at, dx.data() + at, angles, is_q ? q_weight : k_weight,
                is_q ? dq_weight : dk_weight);
      }
  }

 private:
  // x becomes y, dy becomes dx.
  void do_head(double* x, double* dy, const double* angles, const Doubles& weight,
               Doubles& dweight) {
    const auto n = static_cast<int64_t>(weight.size());
    turn(dy, angles, -1, n / 2);
    double squares = 0, along = 0;
    for (int64_t i = 0; i < n; ++i) squares += x[i] * x[i];
    const double r = 1 / std::sqrt(squares / static_cast<double>(n) + kEps);
    const double* w = weight.data();
    for (int64_t i = 0; i < n; ++i) along += dy[i] * w[i] * x[i] * r;
    for (int64_t i = 0; i < n; ++i) {
      const double xhat = x[i] * r;
      dweight[static_cast<size_t>(i)] += dy[i] * xhat;
      dy[i] = r * (dy[i] * w[i] - xhat * along / static_cast<double>(n));
      x[i] = xhat * w[i];
    }
    turn(x, angles, 1, n / 2);
    rstd.push_back(r);
  }

  static void turn(double* head, const double* angles, double sign, int64_t half) {
    for (int64_t i = 0; i < half; ++i) {
      const double a = head[i], b = head[half + i];
      head[i] = a * angles[i] - sign * b * angles[half + i];
      head[half + i] = b * angles[i] + sign * a * angles[half + i];
    }
  }
};

// Heads [begin, begin + count) of all tokens as rows of their own, and back.
Tensor rows_of_heads(const Tensor& x, const Sizes& s, int64_t begin, int64_t count) {
  const Doubles all = test::to_doubles(x);
  Doubles rows;
  for (int64_t t = 0; t < s.tokens; ++t) {
    const auto at = all.begin() + t * s.width() + begin * s.head_dim;
    rows.insert(rows.end(), at, at + count * s.head_dim);
  }
  return test::from_doubles(rows, {s.tokens * count, s.head_dim}, x.dtype());
}
Tensor with_heads(const Tensor& x, const Sizes& s, const Tensor& q, const Tensor& k) {
  Doubles all = test::to_doubles(x);
  const Doubles of_q = test::to_doubles(q), of_k = test::to_doubles(k);
  const int64_t q_width = s.num_heads * s.head_dim, k_width = s.num_kv_heads * s.head_dim;
  for (int64_t t = 0; t < s.tokens; ++t) {
    const auto at = all.begin() + t * s.width();
    std::copy_n(of_q.begin() + t * q_width, q_width, at);
    std::copy_n(of_k.begin() + t * k_width, k_width, at + q_width);
  }
  return test::from_doubles(all, x.shape(), x.dtype());
}

// v's columns of each row.
Doubles v_of(const Tensor& x, const Sizes& s) {
  return test::to_doubles(rows_of_heads(x, s, s.turned(), s.num_kv_heads));
}

class QkNormRope : public test::OpTest {
 protected:
  static void expect_formula(const Sizes& sizes, DType weight_type) {
    const Problem p = make_problem(sizes, dtype(), weight_type);
    const Reference want(p);
    const Tensor before = p.qkv.clone();
    const QkNormRopeResult result = qk_norm_rope(p.args());
    const std::string where = fmt::format("{} tokens, {} + {} heads of {}, ", sizes.tokens,
                                          sizes.num_heads, sizes.num_kv_heads, sizes.head_dim);
    // Two roundings to the storage dtype.
    test::expect_close(result.qkv, want.y, 2 * tolerance(), where + "qkv");
    test::expect_close(result.rstd, want.rstd, 1e-6, where + "rstd");
    EXPECT_TRUE(test::same_bytes(p.qkv, before)) << where;
    EXPECT_EQ(v_of(result.qkv, sizes), v_of(p.qkv, sizes)) << where;
    const Gradients got = backward(p, result.rstd);
    test::expect_close(got.dqkv, want.dx, 2 * tolerance(), where + "dqkv");
    test::expect_close(got.dq_weight, want.dq_weight, 2 * tolerance(), where + "dq_weight");
    test::expect_close(got.dk_weight, want.dk_weight, 2 * tolerance(), where + "dk_weight");
    EXPECT_EQ(v_of(got.dqkv, sizes), v_of(p.dy, sizes)) << where;
  }
};

TEST_P(QkNormRope, ForwardAndBackwardAreTheFormulaAndLeaveValuesAlone) {
  for (int64_t tokens : {0, 1, 21})
    for (int64_t head_dim : {2, 10, 64, 66, 80, 128, 256}) {
      expect_formula({tokens, 1, 1, head_dim}, dtype());
      expect_formula({tokens, 6, 2, head_dim}, DType::f32);
    }
}

TEST_P(QkNormRope, IsTheFormulaInWideHeadsAndInManyTokens) {
  for (int64_t head_dim : {512, 520, 1030, 2064}) expect_formula({5, 3, 1, head_dim}, dtype());
  expect_formula({700, 9, 3, 16}, dtype());
  expect_formula({150, 32, 8, 128}, dtype());
}

TEST_P(QkNormRope, IsRmsNormThenRopeBitForBitOnACpu) {
  const Sizes s{37, 5, 2, 66};
  const Problem p = make_problem(s, dtype(), dtype());
  const Tensor q = rows_of_heads(p.qkv, s, 0, 5), k = rows_of_heads(p.qkv, s, 5, 2);
  const RmsNormResult normed_q = rms_norm(q, p.q_weight, kEps);
  const RmsNormResult normed_k = rms_norm(k, p.k_weight, kEps);
  const Tensor want = with_heads(p.qkv, s, normed_q.y, normed_k.y);
  rope({.x = want, .table = p.table, .num_heads = s.turned()});
  const QkNormRopeResult result = qk_norm_rope(p.args());
  const Gradients got = backward(p, result.rstd);

  const Tensor dy = p.dy.clone(), none;
  rope({.x = dy, .table = p.table, .num_heads = s.turned(), .inverse = true});
  const Tensor dq_weight = Tensor::zeros({66}, DType::f32, device()), dk_weight = dq_weight.clone();
  const auto backward_of = [&](int64_t begin, int64_t count, const Tensor& x, const Tensor& weight,
                               const Tensor& rstd, const Tensor& dweight) {
    return rms_norm_backward({rows_of_heads(dy, s, begin, count), x, weight, rstd, none, dweight});
  };
  const Tensor dq = backward_of(0, 5, q, p.q_weight, normed_q.rstd, dq_weight);
  const Tensor dk = backward_of(5, 2, k, p.k_weight, normed_k.rstd, dk_weight);
  const Tensor want_dqkv = with_heads(dy, s, dq, dk);
  if (!device().is_cpu()) {
    test::expect_close(result.qkv, test::to_doubles(want), 2 * tolerance(), "qkv");
    test::expect_close(got.dqkv, test::to_doubles(want_dqkv), 2 * tolerance(), "dqkv");
    return;
  }
  EXPECT_TRUE(test::same_bytes(result.qkv, want));
  EXPECT_TRUE(test::same_bytes(got.dqkv, want_dqkv));
  EXPECT_TRUE(test::same_bytes(got.dq_weight, dq_weight));
  EXPECT_TRUE(test::same_bytes(got.dk_weight, dk_weight));
}

TEST_P(QkNormRope, AFrozenWeightChangesNoOtherBit) {
  const Problem p = make_problem({301, 6, 2, 64}, dtype(), dtype());
  const Tensor rstd = qk_norm_rope(p.args()).rstd, none;
  const Gradients all = backward(p, rstd);
  for (const bool trains_q : {false, true})
    for (const bool trains_k : {false, true}) {
      const Tensor dqkv = p.dy.clone();
      const Tensor dq = Tensor::zeros({64}, DType::f32, device()), dk = dq.clone();
      qk_norm_rope_backward({dqkv, p.args(), rstd, trains_q ? dq : none, trains_k ? dk : none});
      EXPECT_TRUE(test::same_bytes(dqkv, all.dqkv)) << trains_q << trains_k;
      if (trains_q) EXPECT_TRUE(test::same_bytes(dq, all.dq_weight)) << trains_k;
      if (trains_k) EXPECT_TRUE(test::same_bytes(dk, all.dk_weight)) << trains_q;
    }
}

TEST_P(QkNormRope, GradientsOfWeightsAccumulateInTheirDtype) {
  const Problem p = make_problem({40, 3, 1, 80}, dtype(), dtype());
  const Reference reference(p);
  const Tensor dq = test::random_tensor({80}, dtype(), 8),
               dk = test::random_tensor({80}, dtype(), 9);
  Doubles want_q = test::to_doubles(dq), want_k = test::to_doubles(dk);
  for (size_t i = 0; i < 80; ++i) {
    want_q[i] += reference.dq_weight[i];
    want_k[i] += reference.dk_weight[i];
  }
  const Tensor rstd = qk_norm_rope(p.args()).rstd;
  qk_norm_rope_backward({p.dy, p.args(), rstd, dq, dk});
  test::expect_close(dq, want_q, 2 * tolerance(), "dq_weight");
  test::expect_close(dk, want_k, 2 * tolerance(), "dk_weight");
}

TEST_P(QkNormRope, GivesTheSameWhereverItsTensorsBegin) {
  for (int64_t head_dim : {16, 64, 128, 256}) {
    const Problem own = make_problem({9, 6, 2, head_dim}, dtype(), dtype());
    // The same from an element on that no vector load fits.
    const auto shifted = [](const Tensor& t) {
      const Tensor all = Tensor::zeros({t.numel() + 1}, t.dtype(), t.device());
      all.flat(1, t.shape()).copy_from(t);
      return all.flat(1, t.shape());
    };
    Problem view = own;
    for (Tensor* t : {&view.qkv, &view.table, &view.q_weight, &view.k_weight}) *t = shifted(*t);
    const QkNormRopeResult of_own = qk_norm_rope(own.args()), of_view = qk_norm_rope(view.args());
    EXPECT_TRUE(test::same_bytes(of_view.qkv, of_own.qkv)) << head_dim;
    EXPECT_TRUE(test::same_bytes(of_view.rstd, of_own.rstd)) << head_dim;
    const Gradients want = backward(own, of_own.rstd), got = backward(view, of_view.rstd);
    EXPECT_TRUE(test::same_bytes(got.dqkv, want.dqkv)) << head_dim;
    test::expect_close(got.dq_weight, test::to_doubles(want.dq_weight), 1e-6);
    test::expect_close(got.dk_weight, test::to_doubles(want.dk_weight), 1e-6);
  }
}

TEST_P(QkNormRope, GivesTheSameBitsEverywhere) {
  const Problem p = make_problem({301, 6, 2, 66}, dtype(), dtype());
  test::expect_same_bits_everywhere([&] {
    const QkNormRopeResult result = qk_norm_rope(p.args());
    const Gradients g = backward(p, result.rstd);
    return std::vector<Tensor>{result.qkv, result.rstd, g.dqkv, g.dq_weight, g.dk_weight};
  });
}

TEST_P(QkNormRope, GradientAgreesWithFiniteDifferences) {
  if (dtype() != DType::f32) GTEST_SKIP() << "finite differences need f32";
  for (int64_t head_dim : {10, 16}) {
    const Problem p = make_problem({3, 3, 1, head_dim}, DType::f32, DType::f32);
    const Gradients g = backward(p, qk_norm_rope(p.args()).rstd);
    const auto loss = [&] { return test::weighted_sum(qk_norm_rope(p.args()).qkv, p.dy); };
    test::expect_gradient(p.qkv, g.dqkv, loss, "dqkv");
    test::expect_gradient(p.q_weight, g.dq_weight, loss, "dq_weight");
    test::expect_gradient(p.k_weight, g.dk_weight, loss, "dk_weight");
  }
}

INSTANTIATE_OP_TESTS(QkNormRope);

}  // namespace
}  // namespace weft::ops
