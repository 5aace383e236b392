#include "core/ops/cross_entropy.h"

#include "core/base/cpu_features.h"
#include "core/base/threads.h"
#include "tests/support/gradient_check.h"

namespace weft::ops {
namespace {

struct Case {
  DType dtype;
  VectorIsa isa;
};
std::string name_of_case(const testing::TestParamInfo<Case>& info) {
  return fmt::format("{}_{}", name_of(info.param.dtype), name_of(info.param.isa));
}

Tensor labels_of(const std::vector<double>& labels) {
  return test::from_doubles(labels, {static_cast<int64_t>(labels.size())}, DType::i32);
}

// Labels spread over the vocabulary, every fourth ignored.
Tensor some_labels(int64_t count, int64_t vocab) {
  std::vector<double> labels;
  for (int64_t i = 0; i < count; ++i)
    labels.push_back(i % 4 == 3 ? kIgnoredLabel : static_cast<double>(i * 7919 % vocab));
  return labels_of(labels);
}

double log_sum_exp(const std::vector<double>& logits, int64_t row, int64_t vocab) {
  double largest = -INFINITY, sum = 0;
  for (int64_t v = 0; v < vocab; ++v)
    largest = std::max(largest, logits[static_cast<size_t>(row * vocab + v)]);
  for (int64_t v = 0; v < vocab; ++v)
    sum += std::exp(logits[static_cast<size_t>(row * vocab + v)] - largest);
  return largest + std::log(sum);
}

class CrossEntropy : public testing::TestWithParam<Case> {
 protected:
  CrossEntropy() { set_vector_isa_limit(GetParam().isa); }
  ~CrossEntropy() override {
    set_vector_isa_limit(VectorIsa::avx512);
    set_num_threads(2);
  }
  DType dtype() const { return GetParam().dtype; }
  bool f32() const { return dtype() == DType::f32; }
};

TEST_P(CrossEntropy, LossAndGradientEqualPlainLoops) {
  for (int64_t vocab : {1, 2, 15, 16, 33, 257, 5000}) {
    for (int64_t count : {0, 1, 5, 33}) {
      const std::string what = fmt::format("{} rows of {}", count, vocab);
      const Tensor logits = test::random_tensor({count, vocab}, dtype(), 1, 8.0);
      const Tensor labels = some_labels(count, vocab);
      const std::vector<double> x = test::to_doubles(logits);
      std::vector<double> loss, lse, dlogits;
      for (int64_t c = 0; c < count; ++c) {
        const int32_t label = labels.data<int32_t>()[c];
        const double row_lse = log_sum_exp(x, c, vocab);
        lse.push_back(row_lse);
        loss.push_back(label < 0 ? 0 : row_lse - x[static_cast<size_t>(c * vocab + label)]);
        for (int64_t v = 0; v < vocab; ++v) {
          const double p = std::exp(x[static_cast<size_t>(c * vocab + v)] - row_lse);
          dlogits.push_back(label < 0 ? 0 : (p - (v == label)) * 0.125);
        }
      }
      const TokenLoss result = token_loss(logits_stats(logits, labels), labels);
      test::expect_close(result.lse, lse, 2e-6, "lse, " + what);
      test::expect_close(result.loss, loss, 2e-6, "loss, " + what);
      dlogits_in_place(logits, labels, result.lse, 0.125f);
      test::expect_close(logits, dlogits, f32() ? 3e-7 : 5e-4, "dlogits, " + what);
    }
  }
}

TEST_P(CrossEntropy, ArgmaxIsTheLowestIndexOfTheGreatest) {
  for (int64_t vocab : {1, 7, 40, 5000}) {
    for (int64_t first = 0; first < vocab; first += 1 + vocab / 9) {
      const Tensor logits = test::random_tensor({1, vocab}, dtype(), 3);
      const Tensor greatest = test::from_doubles({4.0}, {1}, dtype());
      for (int64_t v : {first, (first + vocab) / 2, vocab - 1})
        logits.flat(v, {1}).copy_from(greatest);
      EXPECT_EQ(logits_stats(logits, labels_of({0})).argmax.data<int32_t>()[0], first) << vocab;
    }
  }
}

TEST_P(CrossEntropy, EqualLogitsGiveTheLogOfTheVocabulary) {
  const Tensor logits = Tensor::zeros({2, 1000}, dtype());
  const LogitsStats stats = logits_stats(logits, labels_of({999, 0}));
  const TokenLoss result = token_loss(stats, labels_of({999, 0}));
  EXPECT_NEAR(result.loss.data<float>()[0], std::log(1000.0), 1e-6);
  EXPECT_EQ(stats.argmax.data<int32_t>()[1], 0);
}

TEST_P(CrossEntropy, ShardsOfTheVocabularyCombineToTheWhole) {
  const int64_t vocab = 100, cut = 37;
  const Tensor whole = test::random_tensor({4, vocab}, dtype(), 5, 6.0);
  const Tensor labels = labels_of({36, 37, 99, kIgnoredLabel});
  Tensor shards[2] = {Tensor::empty({4, cut}, dtype()), Tensor::empty({4, vocab - cut}, dtype())};
  for (int64_t c = 0; c < 4; ++c) {
    shards[0].rows(c, c + 1).copy_from(whole.flat(c * vocab, {cut}));
    shards[1].rows(c, c + 1).copy_from(whole.flat(c * vocab + cut, {vocab - cut}));
  }
  const LogitsStats want = logits_stats(whole, labels);
  const LogitsStats a = logits_stats(shards[0], labels), b = logits_stats(shards[1], labels, cut);
  LogitsStats sum{a.max.clone(), a.sum_exp.clone(), a.label_logit.clone(), a.argmax.clone()};
  for (int64_t c = 0; c < 4; ++c) {
    const float ma = a.max.data<float>()[c], mb = b.max.data<float>()[c], m = std::max(ma, mb);
    sum.max.data<float>()[c] = m;
    sum.sum_exp.data<float>()[c] = a.sum_exp.data<float>()[c] * std::exp(ma - m) +
                                   b.sum_exp.data<float>()[c] * std::exp(mb - m);
    sum.label_logit.data<float>()[c] += b.label_logit.data<float>()[c];
    EXPECT_EQ(want.argmax.data<int32_t>()[c], (ma >= mb ? a : b).argmax.data<int32_t>()[c]);
  }
  const TokenLoss got = token_loss(sum, labels), loss = token_loss(want, labels);
  test::expect_close(got.loss, test::to_doubles(loss.loss), 1e-6);
  dlogits_in_place(shards[1], labels, loss.lse, 1.0f, cut);
  dlogits_in_place(whole, labels, loss.lse, 1.0f);
  for (int64_t c = 0; c < 4; ++c)
    EXPECT_TRUE(
        test::same_bytes(shards[1].rows(c, c + 1), whole.flat(c * vocab + cut, {vocab - cut})));
}

TEST_P(CrossEntropy, NanReachesTheLossButOnlyOfItsRow) {
  for (int64_t at : {0, 20, 2050, 4999}) {
    const Tensor logits = test::random_tensor({2, 5000}, dtype(), 1);
    const Tensor labels = labels_of({7, 7});
    logits.flat(at, {1}).copy_from(test::from_doubles({NAN}, {1}, dtype()));
    const TokenLoss result = token_loss(logits_stats(logits, labels), labels);
    EXPECT_TRUE(std::isnan(result.loss.data<float>()[0])) << at;
    EXPECT_TRUE(std::isfinite(result.loss.data<float>()[1])) << at;
    dlogits_in_place(logits, labels, result.lse, 1.0f);
    EXPECT_TRUE(std::isnan(test::to_doubles(logits)[100]));
  }
}

TEST_P(CrossEntropy, AnInfiniteLogitIsNotHidden) {
  const Tensor logits = test::random_tensor({1, 100}, dtype(), 1);
  logits.flat(50, {1}).copy_from(test::from_doubles({INFINITY}, {1}, dtype()));
  const TokenLoss result = token_loss(logits_stats(logits, labels_of({50})), labels_of({50}));
  EXPECT_FALSE(std::isfinite(result.loss.data<float>()[0]));
}

TEST_P(CrossEntropy, MaskedLogitsOfMinusInfinityCountNothing) {
  const Tensor logits = Tensor::zeros({1, 40}, dtype());
  for (int64_t v = 10; v < 40; ++v)
    logits.flat(v, {1}).copy_from(test::from_doubles({-INFINITY}, {1}, dtype()));
  const TokenLoss result = token_loss(logits_stats(logits, labels_of({3})), labels_of({3}));
  EXPECT_NEAR(result.loss.data<float>()[0], std::log(10.0), 1e-6);
  dlogits_in_place(logits, labels_of({3}), result.lse, 1.0f);
  EXPECT_EQ(test::to_doubles(logits)[20], 0.0);
}

TEST_P(CrossEntropy, TheSameBitsOnEveryCallAndThreadCount) {
  const auto run = [&](int threads) {
    set_num_threads(threads);
    const Tensor logits = test::random_tensor({37, 3001}, dtype(), 1, 5.0);
    const Tensor labels = some_labels(37, 3001);
    const TokenLoss result = token_loss(logits_stats(logits, labels), labels);
    dlogits_in_place(logits, labels, result.lse, 0.5f);
    return std::pair(result.loss, logits);
  };
  const auto want = run(1);
  for (int threads : {1, 2, 3}) {
    const auto got = run(threads);
    EXPECT_TRUE(test::same_bytes(got.first, want.first));
    EXPECT_TRUE(test::same_bytes(got.second, want.second));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cpu, CrossEntropy,
    testing::Values(Case{DType::f32, VectorIsa::avx512}, Case{DType::bf16, VectorIsa::avx512},
                    Case{DType::f32, VectorIsa::avx2}, Case{DType::bf16, VectorIsa::avx2},
                    Case{DType::f32, VectorIsa::baseline}, Case{DType::bf16, VectorIsa::baseline}),
    name_of_case);

TEST(CrossEntropyGradient, EqualsFiniteDifferences) {
  const Tensor logits = test::random_tensor({5, 30}, DType::f32, 1, 2.0);
  const Tensor labels = some_labels(5, 30);
  const auto loss = [&] {
    const TokenLoss result = token_loss(logits_stats(logits, labels), labels);
    double sum = 0;
    for (double x : test::to_doubles(result.loss)) sum += x;
    return sum;
  };
  const Tensor dlogits = logits.clone();
  dlogits_in_place(dlogits, labels, token_loss(logits_stats(logits, labels), labels).lse, 1.0f);
  test::expect_gradient(logits, dlogits, loss, "dlogits", {.step = 3e-2, .samples = 150});
}

TEST(CrossEntropyChecks, RefuseShapesThatDoNotFit) {
  const Tensor logits = Tensor::zeros({3, 4}, DType::f32);
  EXPECT_THROW(logits_stats(logits, labels_of({1, 2})), Error);
  EXPECT_THROW(logits_stats(logits, Tensor::zeros({3}, DType::f32)), Error);
  EXPECT_THROW(dlogits_in_place(logits, labels_of({0, 0, 0}), Tensor::zeros({2}, DType::f32), 1),
               Error);
}

}  // namespace
}  // namespace weft::ops
