#include "core/ops/update_control.h"

#include <limits>

#include "tests/support/op_cases.h"

namespace weft::ops {
namespace {

struct Decision {
  std::vector<double> progress, control, report;
  double of(Progress what) const { return progress[static_cast<size_t>(what)]; }
  double of(Control what) const { return control[static_cast<size_t>(what)]; }
  double of(StepReport what) const { return report[static_cast<size_t>(what)]; }
};

Tensor doubles(const std::vector<double>& values, const Shape& shape) {
  const Tensor t = Tensor::empty(shape, DType::f64);
  std::copy(values.begin(), values.end(), t.data<double>());
  return t.to(test::device_of_test());
}

struct Settings {
  double max_norm = 0;
  int64_t scale_window = 0;
};

// `rows` of ranks: sums of squares of shards, then one loss.
Decision decide(const std::vector<double>& rows, int64_t ranks, const Settings& settings,
                const std::vector<double>& progress = {0, 1, 0}) {
  const int64_t columns = static_cast<int64_t>(rows.size()) / ranks;
  const Device device = test::device_of_test();
  const Tensor now = doubles(progress, {3});
  const Tensor control = Tensor::zeros({static_cast<int64_t>(Control::count_)}, DType::f32, device);
  const Tensor report =
      Tensor::zeros({static_cast<int64_t>(StepReport::count_)}, DType::f64, device);
  update_control({.gathered = doubles(rows, {ranks, columns}),
                  .shards = columns - 1,
                  .progress = now,
                  .control = control,
                  .report = report,
                  .max_norm = settings.max_norm,
                  .scale_window = settings.scale_window});
  return {test::to_doubles(now), test::to_doubles(control), test::to_doubles(report)};
}

class UpdateControl : public test::OpTest {};

TEST_P(UpdateControl, FactorIsThatOfTorchClipGradNorm) {
  const std::vector<double> rows = {1, 2, 0.5, 3, 4, 0.25, 5, 10, 0.25};
  const Decision hard = decide(rows, 3, {.max_norm = 1});
  EXPECT_EQ(hard.of(StepReport::grad_norm), 5);
  EXPECT_EQ(hard.of(StepReport::loss_sum), 1);
  EXPECT_EQ(hard.of(Control::grad_factor), static_cast<float>(1.0 / (5 + 1e-6)));
  EXPECT_EQ(hard.of(Control::update), 1);
  EXPECT_EQ(decide(rows, 3, {.max_norm = 10}).of(Control::grad_factor), 1);
  EXPECT_EQ(decide(rows, 3, {}).of(Control::grad_factor), 1);  // off
}

TEST_P(UpdateControl, AddsInShardThenRankOrder) {
  const double big = 1e16;  // 1 disappears beside it, unless small numbers come first
  EXPECT_EQ(decide({1, big, 0, 1, 0, 0}, 2, {}).of(StepReport::grad_norm),
            std::sqrt((1.0 + 1.0) + big));
  EXPECT_EQ(decide({big, 1, 0, 0, 1, 0}, 2, {}).of(StepReport::grad_norm),
            std::sqrt(((big + 0) + 1.0) + 1.0));
}

TEST_P(UpdateControl, WhatIsNotFiniteMakesTheUpdateANoOpThatDoesNotCount) {
  for (double bad : {std::nan(""), std::numeric_limits<double>::infinity()})
    for (const std::vector<double>& row : {std::vector<double>{1, bad, 1}, {1, 1, bad}}) {
      const Decision decision = decide(row, 1, {.max_norm = 1}, {7, 1, 0});
      EXPECT_EQ(decision.of(Control::update), 0);
      EXPECT_EQ(decision.of(StepReport::updated), 0);
      EXPECT_EQ(decision.of(Progress::updates), 7);
      EXPECT_TRUE(std::isfinite(decision.of(Control::grad_factor)));
    }
}

TEST_P(UpdateControl, CorrectsTheBiasOfTheUpdateThatItCounts) {
  const Decision decision = decide({1, 1}, 1, {}, {4, 1, 0});
  EXPECT_EQ(decision.of(StepReport::updates), 5);
  EXPECT_NEAR(decision.of(Control::m_correction), 1 / (1 - std::pow(0.9, 5)), 1e-6);
  EXPECT_NEAR(decision.of(Control::v_correction), 1 / std::sqrt(1 - std::pow(0.999, 5)), 1e-5);
}

TEST_P(UpdateControl, TheLossScaleIsTakenOutOfNormAndGradients) {
  const Decision decision = decide({64.0 * 64 * 25, 1}, 1, {.max_norm = 1}, {0, 64, 0});
  EXPECT_EQ(decision.of(StepReport::grad_norm), 5);
  EXPECT_EQ(decision.of(Control::grad_factor), static_cast<float>(1.0 / (5 + 1e-6) / 64));
  EXPECT_EQ(decision.of(Control::loss_scale), 64);
}

TEST_P(UpdateControl, TheLossScaleHalvesAtAnOverflowAndDoublesAfterAWindow) {
  const double inf = std::numeric_limits<double>::infinity();
  const Decision over = decide({inf, 1}, 1, {.scale_window = 3}, {9, 64, 2});
  EXPECT_EQ(over.of(Control::loss_scale), 32);
  EXPECT_EQ(over.of(StepReport::loss_scale), 64);
  EXPECT_EQ(over.of(Progress::updates_at_scale), 0);
  const Decision third = decide({1, 1}, 1, {.scale_window = 3}, {9, 64, 2});
  EXPECT_EQ(third.of(Control::loss_scale), 128);
  EXPECT_EQ(third.of(Progress::updates_at_scale), 0);
  EXPECT_EQ(decide({1, 1}, 1, {.scale_window = 3}, {9, 64, 1}).of(Control::loss_scale), 64);
  EXPECT_EQ(decide({inf, 1}, 1, {.scale_window = 3}, {9, 1, 0}).of(Control::loss_scale), 1);
}

INSTANTIATE_OP_TESTS(UpdateControl);

}  // namespace
}  // namespace weft::ops
