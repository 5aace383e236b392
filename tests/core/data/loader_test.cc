#include "core/data/loader.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <numeric>

#include "core/base/error.h"
#include "core/base/rng.h"
#include "core/data/batch.h"
#include "core/data/open_dataset.h"
#include "core/data/plan.h"
#include "core/ops/cross_entropy.h"
#include "tests/support/errors.h"

namespace weft::data {
namespace {

using ::testing::HasSubstr;

int64_t draw(uint64_t i, uint64_t below) {
  return static_cast<int64_t>(mix(i, 77) % below);
}

PlanInput realistic(int64_t n) {  // as GSM8K's: 60 to 600 tokens, most near 200
  PlanInput input;
  for (int64_t i = 0; i < n; ++i) {
    const uint64_t k = static_cast<uint64_t>(i) * 4;
    input.lengths.push_back(60 + draw(k, 120) + draw(k + 1, 120) + draw(k + 2, 120) +
                            (draw(k + 3, 10) == 0 ? 200 : 0));
  }
  input.weights.assign(static_cast<size_t>(n), 1);
  return input;
}

std::map<int64_t, int64_t> times_seen(const EpochPlan& plan) {
  std::map<int64_t, int64_t> seen;
  for (int64_t example : plan.examples) ++seen[example];
  return seen;
}

int64_t row_tokens(const EpochPlan& plan, const PlanInput& input, int64_t row) {
  int64_t tokens = 0;
  for (int64_t i = plan.row_begins[static_cast<size_t>(row)];
       i < plan.row_begins[static_cast<size_t>(row) + 1]; ++i)
    tokens += input.lengths[static_cast<size_t>(plan.examples[static_cast<size_t>(i)])];
  return tokens;
}

TEST(Plan, HoldsEachDocumentOnceInRowsThatFitAndAreWellFilled) {
  const PlanInput input = realistic(5000);
  const int64_t tokens = std::accumulate(input.lengths.begin(), input.lengths.end(), int64_t{0});
  for (bool shuffle : {true, false})
    for (int64_t seq_len : {1024, 2048}) {
      const EpochPlan plan = plan_epoch(input, {.seq_len = seq_len, .shuffle = shuffle}, 3);
      const auto seen = times_seen(plan);
      EXPECT_EQ(seen.size(), 5000u);
      EXPECT_EQ(plan.examples.size(), 5000u);
      for (int64_t row = 0; row < plan.num_rows(); ++row)
        ASSERT_LE(row_tokens(plan, input, row), seq_len);
      EXPECT_GE(static_cast<double>(tokens), 0.95 * static_cast<double>(plan.num_rows() * seq_len));
    }
}

TEST(Plan, IsAFunctionOfSeedAndEpoch) {
  const PlanInput input = realistic(500);
  const PlanOptions options{.seq_len = 1024, .seed = 5};
  const EpochPlan plan = plan_epoch(input, options, 1);
  EXPECT_EQ(plan_epoch(input, options, 1).examples, plan.examples);
  EXPECT_EQ(plan_epoch(input, options, 1).row_begins, plan.row_begins);
  EXPECT_NE(plan_epoch(input, options, 2).examples, plan.examples);
  EXPECT_EQ(plan_epoch(input, options, 2).num_rows(), plan.num_rows());
  EXPECT_NE(plan_epoch(input, {.seq_len = 1024, .seed = 6}, 1).examples, plan.examples);
}

TEST(Plan, WithoutShufflingAndPackingIsTheOrderOfTheFile) {
  const PlanInput input = realistic(50);
  const EpochPlan plan =
      plan_epoch(input, {.seq_len = 1024, .packing = false, .shuffle = false}, 0);
  std::vector<int64_t> order(50);
  std::iota(order.begin(), order.end(), 0);
  EXPECT_EQ(plan.examples, order);
  EXPECT_EQ(plan.num_rows(), 50);
}

TEST(Plan, WeightsSayHowOftenAnEpochSeesAnExample) {
  PlanInput input = realistic(3000);
  for (size_t i = 0; i < 1000; ++i) input.weights[i] = 2;
  for (size_t i = 1000; i < 2000; ++i) input.weights[i] = 0.5;
  const PlanOptions options{.seq_len = 1024};
  int64_t halves = 0;
  const EpochPlan plan = plan_epoch(input, options, 0);
  for (const auto& [example, times] : times_seen(plan)) {
    if (example >= 1000 && example < 2000) {
      halves += times;
    } else {
      EXPECT_EQ(times, example < 1000 ? 2 : 1);
    }
  }
  EXPECT_NEAR(static_cast<double>(halves), 500, 80);
  EXPECT_EQ(times_seen(plan_epoch(input, options, 0)), times_seen(plan));
  EXPECT_NE(times_seen(plan_epoch(input, options, 1)), times_seen(plan));
}

TEST(Plan, OfAMillionDocumentsIsQuick) {
  const PlanInput input = realistic(1'000'000);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_GT(plan_epoch(input, {.seq_len = 2048}, 0).num_rows(), 0);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(took.count(), 20);  // about one second of an idle core
  RecordProperty("seconds", std::to_string(took.count()));
}

std::shared_ptr<TokenizedDataset> dataset_of(int64_t n, double weight = 1) {
  auto dataset = std::make_shared<TokenizedDataset>();
  for (int64_t i = 0; i < n; ++i) {
    Example example;
    const int64_t length = 3 + draw(static_cast<uint64_t>(i), 20);
    for (int64_t t = 0; t < length; ++t) {
      example.ids.push_back(static_cast<int32_t>(100 * i + t));  // tells document and place
      example.trained.push_back(t >= length / 2);
    }
    dataset->add(example, weight);
  }
  return dataset;
}

// What a micro-batch trains on, a line a token.
void collect(const Batch& batch, std::vector<std::array<int64_t, 4>>& out) {
  for (int64_t t = 0; t < batch.tokens(); ++t)
    out.push_back({batch.ids.data<int32_t>()[t], batch.positions.data<int32_t>()[t],
                   batch.labels.data<int32_t>()[t], batch.sample_ids.data<int64_t>()[t]});
}

std::vector<std::array<int64_t, 4>> tokens_of(const StepData& step) {
  std::vector<std::array<int64_t, 4>> tokens;
  for (const Batch& batch : step.micro_batches) collect(batch, tokens);
  return tokens;
}

constexpr PlanOptions kPlan{.seq_len = 40, .seed = 9, .global_batch = 12};

TEST(Batch, LabelsAreTheNextTokensOfTheSameDocument) {
  const auto dataset = dataset_of(4);
  const std::vector<int64_t> examples = {2, 0};
  const Batch batch = make_batch(*dataset, examples);
  ASSERT_EQ(batch.documents.size(), 2u);
  int64_t trained = 0;
  for (const auto& document : batch.documents)
    for (int64_t i = 0; i < document.q_len; ++i) {
      const int64_t t = document.q_begin + i;
      const bool scored = i + 1 < document.q_len && i + 1 >= document.q_len / 2;
      trained += scored;
      EXPECT_EQ(batch.positions.data<int32_t>()[t], i);
      EXPECT_EQ(batch.labels.data<int32_t>()[t],
                scored ? batch.ids.data<int32_t>()[t] + 1 : ops::kIgnoredLabel);
    }
  EXPECT_EQ(batch.trained_tokens, trained);
}

TEST(Loader, StepsAreTheSameOnAnyNumberOfRanks) {
  const auto dataset = dataset_of(500);
  Loader alone(dataset, kPlan, {.micro_batch = 1});
  const int64_t steps = alone.steps_in(2);
  std::vector<StepData> expected;
  for (int64_t s = 0; s < steps; ++s) expected.push_back(alone.step(s));
  for (int size : {2, 3, 4}) {
    std::vector<std::unique_ptr<Loader>> ranks;
    for (int rank = 0; rank < size; ++rank)
      ranks.push_back(std::make_unique<Loader>(
          dataset, kPlan, LoaderLayout{.rank = rank, .size = size, .micro_batch = 1}));
    for (int64_t s = 0; s < steps; ++s) {
      std::vector<std::array<int64_t, 4>> all;
      int64_t trained = 0;
      for (auto& rank : ranks) {
        const StepData step = rank->step(s);
        const StepData& whole = expected[static_cast<size_t>(s)];
        EXPECT_EQ(step.trained_tokens, whole.trained_tokens);
        EXPECT_EQ(step.tokens, whole.tokens);
        EXPECT_EQ(step.epoch, whole.epoch);
        for (const Batch& batch : step.micro_batches)
          trained += batch.trained_tokens, collect(batch, all);
      }
      auto whole = tokens_of(expected[static_cast<size_t>(s)]);
      EXPECT_EQ(trained, expected[static_cast<size_t>(s)].trained_tokens);
      std::sort(all.begin(), all.end()), std::sort(whole.begin(), whole.end());
      EXPECT_EQ(all, whole) << size << " ranks, step " << s;
    }
  }
}

TEST(Loader, AnEpochHoldsEverythingOnceItsLastStepMayBeShort) {
  const auto dataset = dataset_of(301);
  Loader loader(dataset, kPlan, {.micro_batch = 4});
  std::vector<std::array<int64_t, 4>> tokens;
  int64_t trained = 0;
  const int64_t steps = loader.steps_per_epoch();
  for (int64_t s = 0; s < steps; ++s) {
    const StepData step = loader.step(s);
    EXPECT_EQ(step.micro_batches.size(), 3u);
    trained += step.trained_tokens;
    for (const Batch& batch : step.micro_batches) collect(batch, tokens);
    EXPECT_EQ(step.epoch == 1, s + 1 == steps);
  }
  int64_t expected = 0, expected_trained = 0;
  for (int64_t i = 0; i < dataset->size(); ++i) {
    expected += static_cast<int64_t>(dataset->example(i).ids.size());
    expected_trained += trained_tokens(dataset->example(i));
  }
  EXPECT_EQ(static_cast<int64_t>(tokens.size()), expected);
  EXPECT_EQ(trained, expected_trained);
  EXPECT_GT(loader.step(steps).epoch, 1);
}

TEST(Loader, AnyStepMayBeAskedForInAnyOrder) {
  const auto dataset = dataset_of(200, 1.5);  // epochs of different sizes
  Loader straight(dataset, kPlan, {.micro_batch = 3}), random(dataset, kPlan, {.micro_batch = 3});
  std::vector<std::vector<std::array<int64_t, 4>>> expected;
  for (int64_t s = 0; s < 40; ++s) expected.push_back(tokens_of(straight.step(s)));
  for (int64_t s : {39, 0, 1, 2, 4, 5, 8, 7, 7, 30, 31, 33, 3})
    EXPECT_EQ(tokens_of(random.step(s)), expected[static_cast<size_t>(s)]) << s;
}

TEST(Loader, AStepAheadOfWhatIsPreparedIsReached) {
  Loader loader(dataset_of(200), kPlan, {.micro_batch = 1});
  for (int64_t s = 0; s < 300; s += 1 + s % 4) EXPECT_EQ(loader.step(s).step, s);
}

std::string complaint(const std::shared_ptr<const Dataset>& dataset, const PlanOptions& plan,
                      const LoaderLayout& layout, ErrorKind kind) {
  return test::error_of(kind, [&] { Loader loader(dataset, plan, layout); });
}

TEST(Loader, RefusesWhatCannotBeTrainedOn) {
  EXPECT_THAT(complaint(dataset_of(9), {.seq_len = 40, .global_batch = 10},
                        {.size = 2, .micro_batch = 4}, ErrorKind::usage),
              HasSubstr("not a multiple of 2 ranks x micro_batch 4: use 8 or 16"));
  EXPECT_THAT(complaint(dataset_of(9), {.seq_len = 40, .global_batch = 2},
                        {.size = 4, .micro_batch = 1}, ErrorKind::usage),
              HasSubstr("use 4"));
  EXPECT_THAT(complaint(std::make_shared<TokenizedDataset>(), kPlan, {}, ErrorKind::bad_data),
              HasSubstr("no records"));
  EXPECT_THAT(complaint(dataset_of(9), {.seq_len = 8}, {}, ErrorKind::bad_data),
              HasSubstr("data.seq_len is 8"));
  auto untrained = std::make_shared<TokenizedDataset>();
  untrained->add({.ids = {1, 2, 3}, .trained = {1, 0, 0}}, 1);
  EXPECT_THAT(complaint(untrained, kPlan, {}, ErrorKind::bad_data),
              HasSubstr("no token of the training data has a loss"));
}

}  // namespace
}  // namespace weft::data
