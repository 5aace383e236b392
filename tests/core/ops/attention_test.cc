#include "core/ops/attention.h"

#include <numeric>

#include "tests/support/attention_problem.h"
#include "tests/support/gradient_check.h"
#include "tests/support/op_cases.h"

namespace weft::ops {
namespace {

using Problem = test::AttentionProblem;
using test::kRoom;
using test::kRoomForVectors;
using test::make_problem;
using test::packed;

struct Reference {
  std::vector<double> o, lse, dq, dk, dv;  // laid out as the tensors
};

// Plain loops in double, a query and a head at a time.
Reference reference(const Problem& p) {
  const std::vector<double> q = test::to_doubles(p.q), k = test::to_doubles(p.k);
  const std::vector<double> v = test::to_doubles(p.v), dout = test::to_doubles(p.dout);
  Reference r{
      std::vector<double>(q.size()), std::vector<double>(static_cast<size_t>(p.lse.numel())),
      std::vector<double>(q.size()), std::vector<double>(k.size()), std::vector<double>(k.size())};
  const int64_t D = p.shape.head_dim, group = p.shape.num_heads / p.shape.num_kv_heads;
  for (const AttentionDocument& doc : p.documents)
    for (int64_t h = 0; h < p.shape.num_heads; ++h)
      for (int64_t i = 0; i < doc.q_len; ++i) {
        const int64_t keys = doc.kv_len - doc.q_len + i + 1;
        const auto at_q = [&](int64_t d) {
          return static_cast<size_t>((doc.q_begin + i) * p.q.dim(1) + h * D + d);
        };
        const auto at_k = [&](int64_t j, int64_t d) {
          return static_cast<size_t>((doc.kv_begin + j) * p.k.dim(1) + h / group * D + d);
        };
        std::vector<double> prob(static_cast<size_t>(keys)), dprob(prob.size());
        double largest = -1e300, sum = 0, delta = 0;
        for (int64_t j = 0; j < keys; ++j) {
          double s = 0;
          for (int64_t d = 0; d < D; ++d) s += q[at_q(d)] * k[at_k(j, d)];
          prob[static_cast<size_t>(j)] = s * p.shape.scale;
          largest = std::max(largest, s * p.shape.scale);
        }
        for (double& x : prob) sum += x = std::exp(x - largest);
        for (double& x : prob) x /= sum;
        r.lse[static_cast<size_t>((doc.q_begin + i) * p.shape.num_heads + h)] =
            largest + std::log(sum);
        for (int64_t j = 0; j < keys; ++j) {
          const double pj = prob[static_cast<size_t>(j)];
          for (int64_t d = 0; d < D; ++d) {
            r.o[at_q(d)] += pj * v[at_k(j, d)];
            r.dv[at_k(j, d)] += pj * dout[at_q(d)];
            dprob[static_cast<size_t>(j)] += dout[at_q(d)] * v[at_k(j, d)];
          }
          delta += pj * dprob[static_cast<size_t>(j)];
        }
        for (int64_t j = 0; j < keys; ++j) {
          const double ds = prob[static_cast<size_t>(j)] * (dprob[static_cast<size_t>(j)] - delta) *
                            p.shape.scale;
          for (int64_t d = 0; d < D; ++d) {
            r.dq[at_q(d)] += ds * k[at_k(j, d)];
            r.dk[at_k(j, d)] += ds * q[at_q(d)];
          }
        }
      }
  return r;
}

class Attention : public test::OpTest {
 protected:
  static double tolerance() {
    return dtype() == DType::f32 ? 5e-6 : dtype() == DType::bf16 ? 8e-3 : 1e-3;
  }

  static void check(const AttentionShape& shape, const std::vector<AttentionDocument>& documents,
                    bool backward = true) {
    for (int64_t room : {kRoom, kRoomForVectors}) {
      const Problem p = make_problem(shape, documents, dtype(), 1, room);
      const Reference want = reference(p);
      attention(p.args());
      const std::string what = fmt::format(
          "{} heads, {} kv heads of {}; first document {} of {}; room {}", shape.num_heads,
          shape.num_kv_heads, shape.head_dim, documents[0].q_len, documents[0].kv_len, room);
      test::expect_close(p.o, want.o, tolerance(), "o: " + what);
      test::expect_close(p.lse, want.lse, 5e-6, "lse: " + what);
      if (!backward) continue;
      attention_backward(p.backward_args());
      test::expect_close(p.dq, want.dq, tolerance(), "dq: " + what);
      test::expect_close(p.dk, want.dk, tolerance(), "dk: " + what);
      test::expect_close(p.dv, want.dv, tolerance(), "dv: " + what);
    }
  }
};

TEST_P(Attention, EqualsPlainLoopsForRaggedLengths) {
  for (int64_t n : {1, 2, 31, 33, 64, 65, 257}) check({2, 2, 16, 0}, packed({n}));
}

TEST_P(Attention, EqualsPlainLoopsForEveryHeadDim) {
  for (int64_t head_dim : {1, 7, 16, 20, 64, 72, 80, 128, 192, 256, 264})
    check({2, 1, head_dim, 0}, packed({150}));
}

TEST_P(Attention, HeadsShareTheirGroupsKeys) {
  for (int64_t kv_heads : {1, 2, 3, 6}) check({6, kv_heads, 24, 0}, packed({100, 5}));
}

TEST_P(Attention, LongDocumentsSumTheirPartsOfDq) {
  check({3, 1, 32, 0}, packed({700}));
}

TEST_P(Attention, PackedDocumentsEqualPlainLoops) {
  check({4, 2, 16, 0}, packed({1, 130, 3, 64, 40, 1, 300}));
}

TEST_P(Attention, ManyKeysBeforeTheQueriesEqualPlainLoops) {
  check({4, 2, 16, 0}, {{0, 1, 0, 1}, {1, 1, 1, 200}, {2, 5, 201, 133}, {7, 70, 334, 100}}, false);
  check({3, 1, 16, 0}, {{0, 40, 0, 300}}, true);
}

TEST_P(Attention, OneQueryADocumentEqualsPlainLoops) {
  for (const AttentionShape& shape : {AttentionShape{7, 1, 20, 0},
                                      {8, 2, 64, 0},
                                      {3, 3, 128, 0},
                                      {5, 1, 5, 0},
                                      {2, 1, 256, 0},
                                      {2, 1, 260, 0}})
    check(shape, {{1, 1, 0, 1}, {0, 1, 1, 256}, {2, 1, 257, 257}, {3, 1, 514, 900}}, false);
}

TEST_P(Attention, AnotherDocumentChangesNothing) {
  const auto run = [&](uint32_t other_seed) {
    Problem p = make_problem({4, 2, 32, 0}, packed({70, 90, 33}), dtype());
    const Problem other = make_problem({4, 2, 32, 0}, packed({70, 90, 33}), dtype(), other_seed);
    for (auto [mine, theirs] :
         {std::pair(p.q, other.q), {p.k, other.k}, {p.v, other.v}, {p.dout, other.dout}}) {
      mine.rows(0, 70).copy_from(theirs.rows(0, 70));
      mine.rows(160, 193).copy_from(theirs.rows(160, 193));
    }
    attention(p.args());
    attention_backward(p.backward_args());
    return p;
  };
  const Problem a = run(100), b = run(200);
  for (auto [x, y] :
       {std::pair(a.o, b.o), {a.lse, b.lse}, {a.dq, b.dq}, {a.dk, b.dk}, {a.dv, b.dv}})
    EXPECT_TRUE(test::same_bytes(x.rows(70, 160), y.rows(70, 160)));
  EXPECT_FALSE(test::same_bytes(a.o, b.o));
}

TEST_P(Attention, RowsOutsideEveryDocumentAreLeftAlone) {
  const Problem p = make_problem({2, 1, 16, 0}, {{2, 5, 2, 5}, {9, 4, 9, 4}}, dtype());
  const Tensor before = test::random_tensor({13, 2 * 16 + kRoom}, dtype(), 9);
  p.o.copy_from(before);
  attention(p.args());
  for (auto [begin, end] : {std::pair(0, 2), {7, 9}})
    EXPECT_TRUE(test::same_bytes(p.o.rows(begin, end), before.rows(begin, end)));
}

TEST_P(Attention, DecodingWithACacheEqualsTheWholeAtOnce) {
  const Problem whole = make_problem({4, 2, 32, 0}, packed({100}), dtype());
  attention(whole.args());
  for (int64_t step : {1, 3, 25, 80}) {
    Problem p = make_problem({4, 2, 32, 0}, packed({100}), dtype());
    for (int64_t begin = 0; begin < 100; begin += step) {
      const int64_t n = std::min<int64_t>(step, 100 - begin);
      p.documents = {{begin, n, 0, begin + n}};
      attention(p.args());
    }
    test::expect_close(p.o, test::to_doubles(whole.o), tolerance(), fmt::format("step {}", step));
  }
}

TEST_P(Attention, TheSameBitsOnEveryCallAndThreadCount) {
  const auto run = [&](int threads) {
    set_num_threads(threads);
    const Problem p = make_problem({6, 2, 32, 0}, packed({600, 70, 1}), dtype());
    attention(p.args());
    attention_backward(p.backward_args());
    return p;
  };
  const Problem want = run(1);
  for (int threads : {1, 2, 3}) {
    const Problem got = run(threads);
    EXPECT_TRUE(test::same_bytes(got.o, want.o));
    EXPECT_TRUE(test::same_bytes(got.lse, want.lse));
    EXPECT_TRUE(test::same_bytes(got.dq, want.dq));
    EXPECT_TRUE(test::same_bytes(got.dk, want.dk));
    EXPECT_TRUE(test::same_bytes(got.dv, want.dv));
  }
}

TEST_P(Attention, LargeScoresDoNotOverflow) {
  const Problem p = make_problem({1, 1, 16, 0}, packed({40}), dtype());
  for (const Tensor& t : {p.q, p.k}) t.copy_from(test::random_tensor(t.shape(), dtype(), 5, 100.0));
  const Reference want = reference(p);
  attention(p.args());
  test::expect_close(p.o, want.o, dtype() == DType::f32 ? 2e-3 : 1e-2, "o");
}

TEST_P(Attention, NanOfAQueryReachesItsRowAndNoOther) {
  Problem p = make_problem({1, 1, 16, 0}, packed({100}), dtype());
  const Tensor nan = test::from_doubles({NAN}, {1}, dtype());
  p.q.rows(50, 51).flat(0, {1}).copy_from(nan);
  attention(p.args());
  const std::vector<double> o = test::to_doubles(p.o);
  for (int64_t i = 0; i < 100; ++i)
    EXPECT_EQ(std::isnan(o[static_cast<size_t>(i * p.o.dim(1))]), i == 50) << "row " << i;
}

TEST_P(Attention, LseIsOptional) {
  Problem p = make_problem({2, 1, 16, 0}, packed({30}), dtype());
  attention(p.args());
  Problem without = make_problem({2, 1, 16, 0}, packed({30}), dtype());
  without.lse = {};
  attention(without.args());
  EXPECT_TRUE(test::same_bytes(p.o, without.o));
  EXPECT_THROW(attention_backward(without.backward_args()), Error);
}

TEST_P(Attention, GradientEqualsFiniteDifferences) {
  if (dtype() != DType::f32) GTEST_SKIP() << "finite differences need f32";
  const Problem p = make_problem({4, 2, 8, 0}, packed({9, 20}), dtype());
  attention(p.args());
  attention_backward(p.backward_args());
  const auto loss = [&] {
    attention(p.args());
    return test::weighted_sum(p.o, p.dout);
  };
  // The room at the end of rows holds zeros in o, dq, dk and dv.
  test::expect_gradient(p.q, p.dq, loss, "dq");
  test::expect_gradient(p.k, p.dk, loss, "dk");
  test::expect_gradient(p.v, p.dv, loss, "dv");
}

INSTANTIATE_OP_TESTS(Attention);

TEST(AttentionChecks, RefuseWhatCannotBe) {
  Problem p = make_problem({4, 2, 8, 0}, packed({9}), DType::f32);
  p.documents = {{0, 9, 0, 8}};
  EXPECT_THROW(attention(p.args()), Error);
  p.documents = {{0, 9, 0, 9}};
  p.shape.num_kv_heads = 3;
  EXPECT_THROW(attention(p.args()), Error);
  p.documents.clear();
  p.shape.num_kv_heads = 2;
  EXPECT_NO_THROW(attention(p.args()));
}

}  // namespace
}  // namespace weft::ops
