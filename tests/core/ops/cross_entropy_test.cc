#include "core/ops/cross_entropy.h"

#include "tests/support/gradient_check.h"
#include "tests/support/op_cases.h"

namespace weft::ops {
namespace {

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

double first_of(const Tensor& t) {
  return test::to_doubles(t)[0];
}

class CrossEntropy : public test::OpTest {};

void expect_plain_loops(int64_t count, int64_t vocab, DType dtype) {
  const std::string what = fmt::format("{} rows of {}", count, vocab);
  const Tensor logits = test::random_tensor({count, vocab}, dtype, 1, 8.0);
  const Tensor labels = some_labels(count, vocab);
  const std::vector<double> x = test::to_doubles(logits), label_of = test::to_doubles(labels);
  std::vector<double> loss, lse, dlogits;
  for (int64_t c = 0; c < count; ++c) {
    const auto label = static_cast<int64_t>(label_of[static_cast<size_t>(c)]);
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
  dlogits_in_place(logits, labels, result.lse, Tensor::scalar(0.125f, test::device_of_test()));
  test::expect_close(logits, dlogits, dtype == DType::f32 ? 3e-7 : 5e-4, "dlogits, " + what);
}

TEST_P(CrossEntropy, LossAndGradientEqualPlainLoops) {
  for (int64_t vocab : {1, 2, 15, 16, 33, 257, 5000})
    for (int64_t count : {0, 1, 5, 33}) expect_plain_loops(count, vocab, dtype());
  for (int64_t vocab : {40000, 50257}) expect_plain_loops(9, vocab, dtype());
}

TEST_P(CrossEntropy, GivesTheSameBitsWhereverLogitsBegin) {
  const Shape shape{5, 40000};
  const Tensor view = test::random_tensor({shape.numel() + 1}, dtype(), 1, 8.0).flat(1, shape);
  const Tensor own = view.clone(), labels = some_labels(5, 40000);
  const LogitsStats of_view = logits_stats(view, labels), of_own = logits_stats(own, labels);
  EXPECT_TRUE(test::same_bytes(of_view.sum_exp, of_own.sum_exp));
  EXPECT_TRUE(test::same_bytes(of_view.argmax, of_own.argmax));
  const Tensor lse = token_loss(of_own, labels).lse;
  dlogits_in_place(view, labels, lse, Tensor::scalar(0.5f, test::device_of_test()));
  dlogits_in_place(own, labels, lse, Tensor::scalar(0.5f, test::device_of_test()));
  EXPECT_TRUE(test::same_bytes(view, own));
}

TEST_P(CrossEntropy, ArgmaxIsTheLowestIndexOfTheGreatest) {
  for (int64_t vocab : {1, 7, 40, 5000}) {
    for (int64_t first = 0; first < vocab; first += 1 + vocab / 9) {
      const Tensor logits = test::random_tensor({1, vocab}, dtype(), 3);
      const Tensor greatest = test::from_doubles({4.0}, {1}, dtype());
      for (int64_t v : {first, (first + vocab) / 2, vocab - 1})
        logits.flat(v, {1}).copy_from(greatest);
      EXPECT_EQ(first_of(logits_stats(logits, labels_of({0})).argmax), first) << vocab;
    }
  }
}

TEST_P(CrossEntropy, EqualLogitsGiveTheLogOfTheVocabulary) {
  const Tensor logits = Tensor::zeros({2, 1000}, dtype(), device());
  const LogitsStats stats = logits_stats(logits, labels_of({999, 0}));
  const TokenLoss result = token_loss(stats, labels_of({999, 0}));
  EXPECT_NEAR(first_of(result.loss), std::log(1000.0), 1e-6);
  EXPECT_EQ(test::to_doubles(stats.argmax)[1], 0);
}

// What two shards of a vocabulary, in order, say together.
LogitsStats combine(const LogitsStats& a, const LogitsStats& b) {
  using test::to_doubles;
  const auto max_a = to_doubles(a.max), max_b = to_doubles(b.max);
  const auto sum_a = to_doubles(a.sum_exp), sum_b = to_doubles(b.sum_exp);
  const auto at_a = to_doubles(a.argmax), at_b = to_doubles(b.argmax);
  const auto label_b = to_doubles(b.label_logit);
  std::vector<double> max, sum, argmax, label = to_doubles(a.label_logit);
  for (size_t c = 0; c < max_a.size(); ++c) {
    max.push_back(std::max(max_a[c], max_b[c]));
    sum.push_back(sum_a[c] * std::exp(max_a[c] - max[c]) + sum_b[c] * std::exp(max_b[c] - max[c]));
    argmax.push_back(max_a[c] >= max_b[c] ? at_a[c] : at_b[c]);
    label[c] += label_b[c];
  }
  const Shape shape{static_cast<int64_t>(max.size())};
  return {test::from_doubles(max, shape, DType::f32), test::from_doubles(sum, shape, DType::f32),
          test::from_doubles(label, shape, DType::f32),
          test::from_doubles(argmax, shape, DType::i32)};
}

TEST_P(CrossEntropy, ShardsOfTheVocabularyCombineToTheWhole) {
  const int64_t vocab = 100, cut = 37;
  const Tensor whole = test::random_tensor({4, vocab}, dtype(), 5, 6.0);
  const Tensor labels = labels_of({36, 37, 99, kIgnoredLabel});
  Tensor shards[2] = {Tensor::empty({4, cut}, dtype(), device()),
                      Tensor::empty({4, vocab - cut}, dtype(), device())};
  for (int64_t c = 0; c < 4; ++c) {
    shards[0].rows(c, c + 1).copy_from(whole.flat(c * vocab, {cut}));
    shards[1].rows(c, c + 1).copy_from(whole.flat(c * vocab + cut, {vocab - cut}));
  }
  const LogitsStats want = logits_stats(whole, labels);
  const LogitsStats sum =
      combine(logits_stats(shards[0], labels), logits_stats(shards[1], labels, cut));
  EXPECT_EQ(test::to_doubles(sum.argmax), test::to_doubles(want.argmax));
  const TokenLoss got = token_loss(sum, labels), loss = token_loss(want, labels);
  test::expect_close(got.loss, test::to_doubles(loss.loss), 1e-6);
  dlogits_in_place(shards[1], labels, loss.lse, Tensor::scalar(1.0f, test::device_of_test()), cut);
  dlogits_in_place(whole, labels, loss.lse, Tensor::scalar(1.0f, test::device_of_test()));
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
    const std::vector<double> loss = test::to_doubles(result.loss);
    EXPECT_TRUE(std::isnan(loss[0])) << at;
    EXPECT_TRUE(std::isfinite(loss[1])) << at;
    dlogits_in_place(logits, labels, result.lse, Tensor::scalar(1.0f, test::device_of_test()));
    EXPECT_TRUE(std::isnan(test::to_doubles(logits)[100]));
  }
}

TEST_P(CrossEntropy, AnInfiniteLogitIsNotHidden) {
  const Tensor logits = test::random_tensor({1, 100}, dtype(), 1);
  logits.flat(50, {1}).copy_from(test::from_doubles({INFINITY}, {1}, dtype()));
  const TokenLoss result = token_loss(logits_stats(logits, labels_of({50})), labels_of({50}));
  EXPECT_FALSE(std::isfinite(first_of(result.loss)));
}

TEST_P(CrossEntropy, MaskedLogitsOfMinusInfinityCountNothing) {
  const Tensor logits = Tensor::zeros({1, 40}, dtype(), device());
  for (int64_t v = 10; v < 40; ++v)
    logits.flat(v, {1}).copy_from(test::from_doubles({-INFINITY}, {1}, dtype()));
  const TokenLoss result = token_loss(logits_stats(logits, labels_of({3})), labels_of({3}));
  EXPECT_NEAR(first_of(result.loss), std::log(10.0), 1e-6);
  dlogits_in_place(logits, labels_of({3}), result.lse,
                   Tensor::scalar(1.0f, test::device_of_test()));
  EXPECT_EQ(test::to_doubles(logits)[20], 0.0);
}

TEST_P(CrossEntropy, TheSameBitsOnEveryCallAndThreadCount) {
  const auto run = [&](int threads) {
    set_num_threads(threads);
    const Tensor logits = test::random_tensor({37, 3001}, dtype(), 1, 5.0);
    const Tensor labels = some_labels(37, 3001);
    const TokenLoss result = token_loss(logits_stats(logits, labels), labels);
    dlogits_in_place(logits, labels, result.lse, Tensor::scalar(0.5f, test::device_of_test()));
    return std::pair(result.loss, logits);
  };
  const auto want = run(1);
  for (int threads : {1, 2, 3}) {
    const auto got = run(threads);
    EXPECT_TRUE(test::same_bytes(got.first, want.first));
    EXPECT_TRUE(test::same_bytes(got.second, want.second));
  }
}

INSTANTIATE_OP_TESTS(CrossEntropy);

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
  dlogits_in_place(dlogits, labels, token_loss(logits_stats(logits, labels), labels).lse,
                   Tensor::scalar(1.0f, test::device_of_test()));
  test::expect_gradient(logits, dlogits, loss, "dlogits", {.step = 3e-2, .samples = 150});
}

TEST(CrossEntropyChecks, RefuseShapesThatDoNotFit) {
  const Tensor logits = Tensor::zeros({3, 4}, DType::f32);
  EXPECT_THROW(logits_stats(logits, labels_of({1, 2})), Error);
  EXPECT_THROW(logits_stats(logits, Tensor::zeros({3}, DType::f32)), Error);
  EXPECT_THROW(dlogits_in_place(logits, labels_of({0, 0, 0}), Tensor::zeros({2}, DType::f32),
                                Tensor::scalar(1, test::device_of_test())),
               Error);
}

}  // namespace
}  // namespace weft::ops
