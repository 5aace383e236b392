// AdamW over shards against torch.optim.AdamW's formulas in f64.
#include "optim/adamw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "core/base/rng.h"

namespace weft::optim {
namespace {

constexpr int64_t kPadded = 48, kUsed = 41;

float draw(int64_t i, int salt) {
  return to_unit_float(static_cast<uint32_t>(mix(i, salt))) - 0.5f;
}

// Four segments: two that decay side by side, one that does not, one with a doubled learning rate;
// then padding.
nn::Shard make_shard(DType dtype) {
  nn::Shard shard{
      "unit", Tensor::zeros({kPadded}, dtype), Tensor::zeros({kPadded}, DType::f32), {}};
  shard.segments = {{"a", {10}, 0, 10, 0, true, 1},
                    {"b", {20}, 3, 12, 10, true, 1},
                    {"c", {9}, 0, 9, 22, false, 1},
                    {"d", {10}, 0, 10, 31, true, 2}};
  for (int64_t i = 0; i < kUsed; ++i) {
    if (dtype == DType::f32)
      shard.value.data<float>()[i] = draw(i, 1);
    else
      shard.value.data<bf16>()[i] = bf16(draw(i, 1));
  }
  return shard;
}

// One rank's sum of squares of its only shard, and its loss.
Tensor gathered(double norm, double loss = 1) {
  const Tensor t = Tensor::empty({1, 2}, DType::f64);
  t.data<double>()[0] = norm * norm;
  t.data<double>()[1] = loss;
  return t;
}

struct Reference {
  double w, m = 0, v = 0;
  void update(double g, double lr, double decay, int t) {
    w *= 1 - lr * decay;
    m = 0.9 * m + 0.1 * g;
    v = 0.999 * v + 0.001 * g * g;
    const double denominator = std::sqrt(v) / std::sqrt(1 - std::pow(0.999, t)) + 1e-8;
    w -= lr / (1 - std::pow(0.9, t)) * m / denominator;
  }
};

double value_at(const nn::Shard& shard, int64_t i) {
  return shard.value.dtype() == DType::f32 ? shard.value.data<float>()[i]
                                           : static_cast<float>(shard.value.data<bf16>()[i]);
}

class AdamwOn : public ::testing::TestWithParam<DType> {};

TEST_P(AdamwOn, SegmentsIsTorchAdamWWithTheirDecayAndRate) {
  const nn::Shard shard = make_shard(GetParam());
  std::vector<Reference> reference;
  for (int64_t i = 0; i < kUsed; ++i) reference.push_back({value_at(shard, i)});
  Adamw adamw({shard}, {.weight_decay = 0.1, .max_grad_norm = 2});
  for (int t = 1; t <= 10; ++t) {
    for (int64_t i = 0; i < kUsed; ++i) {
      const float g = draw(i, 100 + t);
      shard.grad.data<float>()[i] = g;
      const bool decays = i < 22 || i >= 31;
      reference[i].update(0.5 * g, i >= 31 ? 2e-2 : 1e-2, decays ? 0.1 : 0, t);
    }
    adamw.update(1e-2, t, gathered(4));  // clipped to a half
  }
  EXPECT_EQ(adamw.progress().updates, 10);
  for (int64_t i = 0; i < kPadded; ++i) {
    const double want = i < kUsed ? reference[i].w : 0;
    const double tolerance = GetParam() == DType::f32 ? 2e-6 : 2e-6 + std::abs(want) / 256;
    EXPECT_NEAR(value_at(shard, i), want, tolerance) << i;
  }
  for (const nn::StatePiece& piece : adamw.states()) {
    if (piece.part != "master") continue;
    for (int64_t i = 0; i < piece.segment.count; ++i)
      EXPECT_NEAR(piece.data.data<float>()[i], reference[piece.segment.offset + i].w, 2e-6);
  }
}

TEST_P(AdamwOn, AnUpdateOfGradientsThatAreNotFiniteChangesNothing) {
  const nn::Shard shard = make_shard(GetParam());
  Adamw adamw({shard}, {.weight_decay = 0.1});
  adamw.update(1e-2, 0, gathered(1));
  const Tensor before = shard.value.clone();
  shard.grad.data<float>()[0] = std::nanf("");
  adamw.update(1e-2, 1, gathered(std::nan("")));
  EXPECT_EQ(adamw.progress().updates, 1);
  EXPECT_EQ(std::memcmp(before.raw(), shard.value.raw(), before.bytes()), 0);
  for (const nn::StatePiece& piece : adamw.states())
    for (int64_t i = 0; i < piece.segment.count; ++i)
      EXPECT_TRUE(std::isfinite(piece.data.data<float>()[i]));
}

// A run that stopped after three updates and went on from its states alone.
TEST_P(AdamwOn, StatesAreAllThatAResumeNeeds) {
  const nn::Shard kept = make_shard(GetParam()), resumed = make_shard(GetParam());
  Adamw first({kept}, {.weight_decay = 0.1});
  const auto step = [&](Adamw& adamw, const nn::Shard& shard, int t) {
    for (int64_t i = 0; i < kUsed; ++i) shard.grad.data<float>()[i] = draw(i, 100 + t);
    adamw.update(1e-2, t, gathered(1));
  };
  for (int t = 1; t <= 3; ++t) step(first, kept, t);

  Adamw second({resumed}, {.weight_decay = 0.1});
  resumed.value.copy_from(kept.value);
  const auto from = first.states(), to = second.states();
  ASSERT_EQ(from.size(), to.size());
  ASSERT_EQ(from.size(), GetParam() == DType::f32 ? 8u : 12u);
  for (size_t i = 0; i < from.size(); ++i) {
    EXPECT_EQ(from[i].part, to[i].part);
    EXPECT_EQ(from[i].segment.name, to[i].segment.name);
    to[i].data.copy_from(from[i].data);
  }
  second.set_progress(first.progress());
  for (int t = 4; t <= 6; ++t) {
    step(first, kept, t);
    step(second, resumed, t);
  }
  EXPECT_EQ(std::memcmp(kept.value.raw(), resumed.value.raw(), kept.value.bytes()), 0);
}

INSTANTIATE_TEST_SUITE_P(DTypes, AdamwOn, ::testing::Values(DType::f32, DType::bf16),
                         [](const auto& info) { return std::string(name_of(info.param)); });

TEST(Adamw, MastersAreWhatTheValuesWereBeforeTheyWereRounded) {
  const nn::Shard shard = make_shard(DType::bf16);
  Adamw adamw({shard}, {});
  adamw.take_values([](const nn::Segment& s, const Tensor& out) {
    for (int64_t i = 0; i < s.count; ++i) out.data<float>()[i] = draw(s.offset + i, 1);
    return s.name != "c";
  });
  for (const nn::StatePiece& piece : adamw.states()) {
    if (piece.part != "master") continue;
    for (int64_t i = 0; i < piece.segment.count; ++i) {
      const int64_t at = piece.segment.offset + i;
      const double want = piece.segment.name == "c" ? value_at(shard, at) : draw(at, 1);
      EXPECT_EQ(piece.data.data<float>()[i], want);
    }
  }
}

TEST(Adamw, StatesAreCountedAsTheOptimizers) {
  const auto bytes_of = [](const AdamwOptions& options) {
    const size_t before = memory_use(MemoryTag::optimizer).current;
    const Adamw adamw({make_shard(DType::bf16)}, options);
    return memory_use(MemoryTag::optimizer).current - before;
  };
  const size_t small = 2 * 64;  // progress and control
  EXPECT_EQ(bytes_of({}), 3 * kPadded * 4 + small);
  EXPECT_EQ(bytes_of({.master_weights = false}), 2 * kPadded * 4 + small);
  EXPECT_EQ(bytes_of({.master_weights = false, .state_dtype = DType::bf16}), 2 * 128 + small);
}

// Three shards: one that is a launch of its own, and two that are updated together.
TEST(Adamw, ALargeShardIsHandedOnBeforeTheNextIsUpdated) {
  const int64_t large = int64_t{32} << 20;
  nn::Shard first{"first",
                  Tensor::zeros({large}, DType::bf16),
                  Tensor::zeros({large}, DType::bf16),
                  {{"w", {10}, 0, 10, 0, true, 1}}};
  std::vector<nn::Shard> shards{first, make_shard(DType::bf16), make_shard(DType::bf16)};
  for (const nn::Shard& shard : shards)
    for (int64_t i = 0; i < 10; ++i) shard.value.data<bf16>()[i] = bf16(1.0f);
  Adamw adamw(shards, {.weight_decay = 0.5, .master_weights = false, .state_dtype = DType::bf16});
  const auto changed = [&](size_t i) { return value_at(shards[i], 0) != 1; };
  std::vector<size_t> handed_on;
  adamw.update(1, 0, Tensor::zeros({1, 4}, DType::f64), [&](size_t shard) {
    handed_on.push_back(shard);
    EXPECT_TRUE(changed(0));
    EXPECT_EQ(changed(1), shard > 0);
    EXPECT_EQ(changed(2), shard > 0);
  });
  EXPECT_EQ(handed_on, (std::vector<size_t>{0, 1, 2}));
}

// 41 elements of one run are two shards of a parameter whose rounding must not know.
TEST(Adamw, StochasticRoundingIsIndependentOfTheLayout) {
  const auto train = [](std::vector<int64_t> cuts) {
    const Tensor values = make_shard(DType::bf16).value;
    const Tensor grads = Tensor::zeros({kPadded}, DType::f32);
    for (int64_t i = 0; i < kUsed; ++i) grads.data<float>()[i] = draw(i, 5);
    std::vector<nn::Shard> shards;
    for (size_t c = 0; c + 1 < cuts.size(); ++c) {
      const int64_t begin = cuts[c], n = cuts[c + 1] - begin;
      shards.push_back({"unit",
                        values.flat(begin, {n}),
                        grads.flat(begin, {n}),
                        {{"w", {kUsed}, begin, n, 0, true, 1}}});
    }
    Adamw adamw(shards, {.master_weights = false, .state_dtype = DType::bf16, .seed = 3});
    const Tensor sums = Tensor::zeros({1, static_cast<int64_t>(shards.size()) + 1}, DType::f64);
    for (int t = 0; t < 4; ++t) adamw.update(1e-3, t, sums);
    return std::string(static_cast<const char*>(values.raw()), values.bytes());
  };
  EXPECT_EQ(train({0, kUsed}), train({0, 16, kUsed}));
}

}  // namespace
}  // namespace weft::optim
