// Schedules against the formulas of transformers.optimization, written out.
#include "optim/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"

namespace weft::optim {
namespace {

constexpr int64_t kWarmup = 10, kTotal = 100;

Schedule make(ScheduleKind kind, double min_ratio = 0) {
  return {kind, 3e-4, kWarmup, kTotal, 20, min_ratio};
}

double warm(int64_t step) {
  return static_cast<double>(step) / kWarmup;
}

TEST(Schedule, ConstantIsGetConstantScheduleWithWarmup) {
  for (int64_t step = 0; step < 120; ++step)
    EXPECT_DOUBLE_EQ(learning_rate(make(ScheduleKind::constant), step),
                     3e-4 * std::min(1.0, warm(step)));
}

TEST(Schedule, LinearIsGetLinearScheduleWithWarmup) {
  for (int64_t step = 0; step < 120; ++step) {
    const double down = std::max(0.0, static_cast<double>(kTotal - step) / (kTotal - kWarmup));
    EXPECT_NEAR(learning_rate(make(ScheduleKind::linear), step),
                3e-4 * (step < kWarmup ? warm(step) : down), 1e-18);
  }
}

TEST(Schedule, CosineIsGetCosineScheduleWithWarmup) {
  for (int64_t step = 0; step <= kTotal; ++step) {
    const double progress = static_cast<double>(step - kWarmup) / (kTotal - kWarmup);
    const double down = std::max(0.0, 0.5 * (1.0 + std::cos(M_PI * 0.5 * 2.0 * progress)));
    EXPECT_NEAR(learning_rate(make(ScheduleKind::cosine), step),
                3e-4 * (step < kWarmup ? warm(step) : down), 1e-18);
  }
}

TEST(Schedule, WsdStaysAtThePeakAndDecaysLinearlyAtTheEnd) {
  const Schedule s = make(ScheduleKind::wsd, 0.1);
  for (int64_t step = 0; step < 120; ++step) {
    double factor = 1;
    if (step < kWarmup) factor = warm(step);
    if (step >= 80) factor = 0.1 + 0.9 * std::max(0.0, (100.0 - step) / 20);
    EXPECT_NEAR(learning_rate(s, step), 3e-4 * factor, 1e-18) << step;
  }
}

TEST(Schedule, EndsAtTheLowestAndStaysThere) {
  for (ScheduleKind kind : {ScheduleKind::cosine, ScheduleKind::linear, ScheduleKind::wsd})
    for (int64_t step : {100, 101, 100000})
      EXPECT_NEAR(learning_rate(make(kind, 0.1), step), 3e-5, 1e-18);
}

TEST(Schedule, WithoutWarmupBeginsAtThePeak) {
  for (ScheduleKind kind :
       {ScheduleKind::constant, ScheduleKind::cosine, ScheduleKind::linear, ScheduleKind::wsd})
    EXPECT_DOUBLE_EQ(learning_rate({kind, 1e-3, 0, 50, 10, 0}, 0), 1e-3);
}

TEST(Schedule, OfDegenerateLengthsIsDefined) {
  EXPECT_DOUBLE_EQ(learning_rate({ScheduleKind::cosine, 1, 10, 5, 0, 0}, 3), 0.3);
  EXPECT_DOUBLE_EQ(learning_rate({ScheduleKind::cosine, 1, 5, 5, 0, 0}, 5), 1);
  EXPECT_DOUBLE_EQ(learning_rate({ScheduleKind::linear, 1, 0, 1, 0, 0}, 0), 1);
  EXPECT_DOUBLE_EQ(learning_rate({ScheduleKind::wsd, 1, 0, 10, 0, 0}, 9), 1);
}

TEST(Schedule, IsNamed) {
  EXPECT_EQ(schedule_from("wsd"), ScheduleKind::wsd);
  EXPECT_THROW(schedule_from("cosign"), Error);
}

}  // namespace
}  // namespace weft::optim
