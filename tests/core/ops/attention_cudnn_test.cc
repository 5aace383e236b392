// What cuDNN takes and what it does not, on a GPU.
#include "core/ops/attention.h"

#include <numeric>

#include "tests/support/attention_problem.h"
#include "tests/support/op_cases.h"

namespace weft::ops {
namespace {

using Problem = test::AttentionProblem;
using test::kRoom;
using test::kRoomForVectors;
using test::make_problem;
using test::packed;

// What cuDNN takes (512 rows or more of bf16 or f16; see kernels/cuda/attention_cudnn.cu), and what
// it does not. The oracle is the CPU in f32 on the same values, which attention_test.cc proves.
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
}  // namespace
}  // namespace weft::ops
