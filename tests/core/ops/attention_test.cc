#include "core/ops/attention.h"

#include <numeric>

#include "tests/support/gradient_check.h"
#include "tests/support/op_cases.h"

namespace weft::ops {
namespace {

// q, k and v side by side in rows [Tq or Tkv, ...] with a little unused room, as a fused qkv has.
struct Problem {
  AttentionShape shape;
  std::vector<AttentionDocument> documents;
  Tensor q, k, v, o, lse;
  Tensor dout, dq, dk, dv;
  AttentionArgs args() const {
    return {view(q), view(k), view(v), view(o), lse, shape, &documents, q.dtype(), q.device()};
  }
  AttentionBackwardArgs backward_args() const {
    return {args(), view(dout), view(dq), view(dk), view(dv)};
  }
  static HeadsView view(const Tensor& t) { return {t.raw(), t.dim(1)}; }
};

// Unused elements at the end of every row: 3, so that rows begin anywhere, or 8, so that those of
// most head_dims allow vectors.
constexpr int64_t kRoom = 3;
constexpr int64_t kRoomForVectors = 8;

Problem make_problem(const AttentionShape& shape, const std::vector<AttentionDocument>& documents,
                     DType dtype, uint32_t seed = 1, int64_t room = kRoom) {
  Problem p{shape, documents, {}, {}, {}, {}, {}, {}, {}, {}, {}};
  p.shape.scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  int64_t tq = 0, tkv = 0;
  for (const AttentionDocument& d : documents) {
    tq = std::max(tq, d.q_begin + d.q_len);
    tkv = std::max(tkv, d.kv_begin + d.kv_len);
  }
  const int64_t q_width = shape.num_heads * shape.head_dim + room;
  const int64_t kv_width = shape.num_kv_heads * shape.head_dim + room;
  p.q = test::random_tensor({tq, q_width}, dtype, seed, 2.0);
  p.k = test::random_tensor({tkv, kv_width}, dtype, seed + 1, 2.0);
  p.v = test::random_tensor({tkv, kv_width}, dtype, seed + 2);
  p.dout = test::random_tensor({tq, q_width}, dtype, seed + 3);
  p.o = Tensor::zeros({tq, q_width}, dtype, test::device_of_test());
  p.dq = Tensor::zeros({tq, q_width}, dtype, test::device_of_test());
  p.dk = Tensor::zeros({tkv, kv_width}, dtype, test::device_of_test());
  p.dv = Tensor::zeros({tkv, kv_width}, dtype, test::device_of_test());
  p.lse = Tensor::zeros({tq, shape.num_heads}, DType::f32, test::device_of_test());
  return p;
}

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

// Documents one after the other, queries and keys in the same rows.
std::vector<AttentionDocument> packed(const std::vector<int64_t>& lengths) {
  std::vector<AttentionDocument> documents;
  int64_t begin = 0;
  for (int64_t n : lengths) {
    documents.push_back({begin, n, begin, n});
    begin += n;
  }
  return documents;
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

// What cuDNN takes (512 rows or more of bf16 or f16; see kernels/cuda/attention_cudnn.cu), and what
// it does not. The oracle is the CPU in f32 on the same values, which the tests above prove.
class AttentionOnGpu : public testing::TestWithParam<DType> {
 protected:
  static constexpr Device kGpu{DeviceKind::cuda, 0};
  void SetUp() override {
    if (device_memory::count() == 0) GTEST_SKIP() << "needs a GPU: " << device_memory::why_none();
    test::device_of_test() = kGpu;
  }
  void TearDown() override { test::device_of_test() = {}; }

  static Problem problem(const AttentionShape& shape,
                         const std::vector<AttentionDocument>& documents,
                         int64_t room = kRoomForVectors) {
    return make_problem(shape, documents, GetParam(), 1, room);
  }

  static void run(const Problem& p, bool deterministic = true) {
    attention(p.args());
    AttentionBackwardArgs args = p.backward_args();
    args.deterministic = deterministic;
    attention_backward(args);
  }

  // What the CPU makes of the same values.
  static Problem on_cpu(const Problem& p, bool backward) {
    Problem copy = p;
    test::device_of_test() = {};
    for (Tensor* t :
         {&copy.q, &copy.k, &copy.v, &copy.o, &copy.lse, &copy.dout, &copy.dq, &copy.dk, &copy.dv})
      *t = test::from_doubles(test::to_doubles(*t), t->shape(), DType::f32);
    test::device_of_test() = kGpu;
    for (const Tensor& t : {copy.o, copy.lse, copy.dq, copy.dk, copy.dv}) t.zero_();
    attention(copy.args());
    if (backward) attention_backward(copy.backward_args());
    return copy;
  }

  static void expect_equal(const Problem& got, const std::string& what, bool backward = true) {
    const Problem want = on_cpu(got, backward);
    const double tolerance = GetParam() == DType::bf16 ? 1e-2 : 2e-3;
    test::expect_close(got.o, test::to_doubles(want.o), tolerance, "o: " + what);
    test::expect_close(got.lse, test::to_doubles(want.lse), 2e-5, "lse: " + what);
    if (!backward) return;
    test::expect_close(got.dq, test::to_doubles(want.dq), tolerance, "dq: " + what);
    test::expect_close(got.dk, test::to_doubles(want.dk), tolerance, "dk: " + what);
    test::expect_close(got.dv, test::to_doubles(want.dv), tolerance, "dv: " + what);
  }

  static void check(const AttentionShape& shape, const std::vector<AttentionDocument>& documents,
                    int64_t room = kRoomForVectors) {
    const Problem p = problem(shape, documents, room);
    const std::string what =
        fmt::format("{} heads, {} kv heads of {}; {} documents, first {}; room {}", shape.num_heads,
                    shape.num_kv_heads, shape.head_dim, documents.size(), documents[0].q_len, room);
    for (bool deterministic : {true, false}) {
      run(p, deterministic);
      expect_equal(p, what + (deterministic ? ", deterministic" : ""));
    }
  }

  static void expect_same_bits(const Problem& a, const Problem& b, int64_t begin, int64_t end) {
    const auto same = [&](const Tensor& x, const Tensor& y) {
      return test::same_bytes(x.rows(begin, end), y.rows(begin, end));
    };
    EXPECT_TRUE(same(a.o, b.o)) << "o";
    EXPECT_TRUE(same(a.lse, b.lse)) << "lse";
    EXPECT_TRUE(same(a.dq, b.dq)) << "dq";
    EXPECT_TRUE(same(a.dk, b.dk)) << "dk";
    EXPECT_TRUE(same(a.dv, b.dv)) << "dv";
  }
};

TEST_P(AttentionOnGpu, QuickLookAtEachKindOfDocuments) {
  check({4, 2, 64, 0}, packed({512, 512}));
  check({4, 2, 64, 0}, packed({300, 1, 260, 64}));
}

TEST_P(AttentionOnGpu, DocumentsOfOneLengthEqualTheCpu) {
  check({2, 2, 64, 0}, packed({256, 256, 256, 256}));
  check({6, 2, 96, 0}, packed({384, 384, 384}));
  check({8, 2, 128, 0}, packed({128, 128, 128, 128, 128, 128}));
}

TEST_P(AttentionOnGpu, OneLongDocumentEqualsTheCpu) {
  for (int64_t n : {1024, 1000, 2049}) check({3, 1, 64, 0}, packed({n}));
}

TEST_P(AttentionOnGpu, RaggedDocumentsEqualTheCpu) {
  const auto documents = packed({700, 1, 130, 64, 3, 257});
  check({2, 2, 64, 0}, documents);
  check({9, 3, 64, 0}, documents);
  check({6, 2, 96, 0}, documents);
  check({8, 2, 128, 0}, documents);
}

TEST_P(AttentionOnGpu, ManyShortDocumentsEqualTheCpu) {
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < 75; ++i) lengths.push_back(5 + i * 37 % 90);
  check({6, 2, 64, 0}, packed(lengths));
}

TEST_P(AttentionOnGpu, EveryHeadDimEqualsTheCpu) {
  for (int64_t head_dim : {8, 16, 20, 32, 72, 80, 160, 192, 256, 264}) {
    check({4, 2, head_dim, 0}, packed({512, 512}));
    check({4, 2, head_dim, 0}, packed({400, 300}));
  }
}

TEST_P(AttentionOnGpu, HeadsThatLieAnywhereEqualTheCpu) {
  check({4, 2, 64, 0}, packed({400, 300}), kRoom);
}

TEST_P(AttentionOnGpu, OurBackwardFollowsCudnnsForward) {
  for (const auto& documents : {packed({512, 512}), packed({400, 300})}) {
    Problem p = problem({6, 2, 64, 0}, documents);
    const int64_t rows = p.q.dim(0);  // rows of dq that begin anywhere: not for cuDNN
    p.dq = Tensor::zeros({rows, 6 * 64 + kRoom}, GetParam(), kGpu);
    run(p);
    expect_equal(p, "rows of dq that begin anywhere");
  }
}

TEST_P(AttentionOnGpu, PrefillIntoACacheEqualsTheCpu) {
  const auto spaced = [](const std::vector<int64_t>& lengths) {
    auto documents = packed(lengths);
    for (size_t i = 0; i < documents.size(); ++i)
      documents[i].kv_begin = static_cast<int64_t>(i) * 700;
    return documents;
  };
  for (const auto& documents : {spaced({512, 512, 512}), spaced({600, 20, 333})}) {
    const Problem p = problem({8, 2, 64, 0}, documents);
    attention(p.args());
    expect_equal(p, "prefill", false);
  }
}

TEST_P(AttentionOnGpu, RowsOfNoDocumentAreLeftAlone) {
  std::vector<AttentionDocument> documents = packed({300, 280, 77});
  for (AttentionDocument& d : documents) d.q_begin += 5, d.kv_begin += 5;
  documents.push_back({662, 40, 662, 40});  // after which the tensors go on
  Problem p = problem({4, 2, 64, 0}, documents);
  p.documents.pop_back();
  const std::vector<Tensor> outputs{p.o, p.dq, p.dk, p.dv};
  std::vector<Tensor> before;
  for (const Tensor& t : outputs) {
    before.push_back(test::random_tensor(t.shape(), t.dtype(), 9));
    t.copy_from(before.back());
  }
  run(p);
  for (size_t i = 0; i < outputs.size(); ++i)
    for (auto [begin, end] : {std::pair(0, 5), {662, 702}})
      EXPECT_TRUE(test::same_bytes(outputs[i].rows(begin, end), before[i].rows(begin, end)))
          << "output " << i << ", rows from " << begin;
}

TEST_P(AttentionOnGpu, NoNumberOfAnotherDocumentIsRead) {
  for (const auto& documents : {packed({300, 210, 77}), packed({256, 256, 256})}) {
    const Problem a = problem({4, 2, 64, 0}, documents);
    run(a);
    Problem b = problem({4, 2, 64, 0}, documents);
    const int64_t begin = documents[1].q_begin, end = begin + documents[1].q_len;
    for (const Tensor& t : {b.q, b.k, b.v, b.dout}) {
      const std::vector<double> nan(static_cast<size_t>((end - begin) * t.dim(1)), NAN);
      t.rows(begin, end).copy_from(test::from_doubles(nan, {end - begin, t.dim(1)}, t.dtype()));
    }
    run(b);
    expect_same_bits(a, b, 0, begin);
    expect_same_bits(a, b, end, a.q.dim(0));
  }
}

TEST_P(AttentionOnGpu, TheSameBitsOnEveryCall) {
  for (const auto& documents : {packed({1024, 1024}), packed({900, 31, 200, 1})}) {
    const Problem first = problem({8, 2, 64, 0}, documents);
    run(first);
    for (int repeat = 0; repeat < 4; ++repeat) {
      const Problem again = problem({8, 2, 64, 0}, documents);
      run(again);
      expect_same_bits(first, again, 0, first.q.dim(0));
    }
  }
}

TEST_P(AttentionOnGpu, OutputHasTheSameBitsWithoutLse) {
  for (const auto& documents : {packed({512, 512}), packed({600, 100})}) {
    const Problem with = problem({4, 2, 64, 0}, documents);
    Problem without = problem({4, 2, 64, 0}, documents);
    without.lse = {};
    attention(with.args());
    attention(without.args());
    EXPECT_TRUE(test::same_bytes(with.o, without.o));
  }
}

// 2 GiB of scores' gradients for a document: half of the heads at a time.
TEST_P(AttentionOnGpu, HeadsInPartsEqualHeadsAlone) {
  for (int64_t n : {8192, 8000}) {
    const Problem all = problem({16, 4, 64, 0}, packed({n}));
    run(all);
    const Problem half = problem({8, 2, 64, 0}, packed({n}));
    const auto second_half = [](const Tensor& t, const Tensor& of, int64_t columns) {
      const int64_t rows = t.dim(0), from = of.dim(1), to = t.dim(1);
      const std::vector<double> values = test::to_doubles(of);
      std::vector<double> mine(static_cast<size_t>(t.numel()));
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t c = 0; c < columns; ++c)
          mine[static_cast<size_t>(row * to + c)] =
              values[static_cast<size_t>(row * from + columns + c)];
      return test::from_doubles(mine, t.shape(), t.dtype());
    };
    half.q.copy_from(second_half(half.q, all.q, 8 * 64));
    half.dout.copy_from(second_half(half.dout, all.dout, 8 * 64));
    half.k.copy_from(second_half(half.k, all.k, 2 * 64));
    half.v.copy_from(second_half(half.v, all.v, 2 * 64));
    run(half);
    EXPECT_TRUE(test::same_bytes(half.o, second_half(half.o, all.o, 8 * 64)));
    EXPECT_TRUE(test::same_bytes(half.dq, second_half(half.dq, all.dq, 8 * 64)));
    EXPECT_TRUE(test::same_bytes(half.dk, second_half(half.dk, all.dk, 2 * 64)));
    EXPECT_TRUE(test::same_bytes(half.dv, second_half(half.dv, all.dv, 2 * 64)));
  }
}

// 1 GiB for a document of 4096: one at a time.
TEST_P(AttentionOnGpu, DocumentsInPartsEqualDocumentsAlone) {
  const Problem all = problem({30, 3, 64, 0}, packed({4096, 4096, 4090, 70}));
  run(all);
  Problem alone = problem({30, 3, 64, 0}, packed({4096, 4096, 4090, 70}));
  for (const AttentionDocument& d : all.documents) {
    alone.documents = {d};
    run(alone);
  }
  const double tolerance = GetParam() == DType::bf16 ? 1e-2 : 2e-3;
  test::expect_close(all.dq, test::to_doubles(alone.dq), tolerance, "dq");
  test::expect_close(all.dk, test::to_doubles(alone.dk), tolerance, "dk");
  test::expect_close(all.dv, test::to_doubles(alone.dv), tolerance, "dv");
}

TEST_P(AttentionOnGpu, NoDocumentsAreNothingToDo) {
  Problem p = problem({4, 2, 64, 0}, packed({600}));
  p.documents.clear();
  run(p);
  for (double value : test::to_doubles(p.o)) ASSERT_EQ(value, 0);
}

#ifdef WEFT_HAS_CUDA
INSTANTIATE_TEST_SUITE_P(Gpu, AttentionOnGpu, testing::Values(DType::bf16, DType::f16),
                         [](const auto& info) { return std::string(name_of(info.param)); });
#else
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(AttentionOnGpu);
#endif

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
