#include "core/telemetry/telemetry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>

#include "core/base/log.h"
#include "core/telemetry/progress.h"
#include "tests/support/test_data.h"

namespace weft::telemetry {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr LogConfig kQuiet{.progress = Progress::none};

std::vector<Json> lines_of(const std::string& path) {
  std::ifstream in(path);
  std::vector<Json> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(Json::parse(line, path));
  return lines;
}

StepMetrics at(int64_t step) {
  return {.step = step, .loss = 2.5, .grad_norm = 0.8, .lr = 1e-3, .tokens = 1000, .seconds = 0.5};
}

TEST(Metrics, EveryEventIsALineOfJson) {
  test::TempDir dir;
  Telemetry telemetry(kQuiet, dir.path().string(), /*writes=*/true);
  telemetry.start(0, 10);
  telemetry.step(at(1));
  Json figures;
  figures.set("loss", 1.5);
  telemetry.evaluation(1, figures);
  telemetry.checkpoint(1, 0.25);
  const auto lines = lines_of(dir.file("metrics.jsonl"));
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0].at("loss").as_double(), 2.5);
  EXPECT_EQ(lines[0].at("tokens_per_second").as_double(), 2000);
  EXPECT_EQ(lines[1].at("evaluation").at("loss").as_double(), 1.5);
  EXPECT_EQ(lines[2].at("checkpoint_seconds").as_double(), 0.25);
}

TEST(Metrics, FlopsAreOfADeviceAndMfuIsTheirShareOfItsPeak) {
  test::TempDir dir;
  Telemetry telemetry(kQuiet, dir.path().string(), true);
  telemetry.set_machine({.devices = 4, .peak_flops = 1000e12});
  telemetry.start(0, 10);
  StepMetrics metrics = at(1);  // 2000 tokens a second
  metrics.flops_per_token = 1e12;
  telemetry.step(metrics);
  telemetry.set_machine({});
  telemetry.step(metrics);
  metrics.flops_per_token = 0;
  telemetry.step(metrics);
  const auto lines = lines_of(dir.file("metrics.jsonl"));
  EXPECT_DOUBLE_EQ(lines[0].at("tflops").as_double(), 500);
  EXPECT_DOUBLE_EQ(lines[0].at("mfu").as_double(), 0.5);
  EXPECT_DOUBLE_EQ(lines[1].at("tflops").as_double(), 2000);
  EXPECT_FALSE(lines[1].contains("mfu"));
  EXPECT_FALSE(lines[2].contains("tflops"));
}

TEST(Metrics, AResumedRunHasEachStepOnce) {
  test::TempDir dir;
  for (const int64_t from : {0, 4, 4}) {
    Telemetry telemetry(kQuiet, dir.path().string(), true);
    telemetry.start(from, 10);
    for (int64_t step = from + 1; step <= 7; ++step) telemetry.step(at(step));
    std::ofstream(dir.file("metrics.jsonl"), std::ios::app) << "{\"step\": 8, \"lo";  // killed
  }
  Telemetry telemetry(kQuiet, dir.path().string(), true);
  telemetry.start(7, 10);
  const auto lines = lines_of(dir.file("metrics.jsonl"));
  ASSERT_EQ(lines.size(), 7u);
  for (int64_t step = 1; step <= 7; ++step) EXPECT_EQ(lines[step - 1].at("step").as_int(), step);
}

TEST(Metrics, ANewRunInAnOldFolderStartsAnew) {
  test::TempDir dir;
  std::ofstream(dir.file("metrics.jsonl")) << "{\"step\": 3}\nnonsense\n";
  Telemetry telemetry(kQuiet, dir.path().string(), true);
  telemetry.start(0, 10);
  EXPECT_TRUE(lines_of(dir.file("metrics.jsonl")).empty());
}

TEST(Metrics, NonFiniteNumbersAreNull) {
  test::TempDir dir;
  Telemetry telemetry(kQuiet, dir.path().string(), true);
  telemetry.start(0, 10);
  StepMetrics bad = at(1);
  bad.loss = std::nan("");
  telemetry.step(bad);
  EXPECT_TRUE(lines_of(dir.file("metrics.jsonl")).at(0).at("loss").is_null());
}

TEST(Metrics, OtherRanksWriteNothing) {
  test::TempDir dir;
  Telemetry telemetry({}, dir.path().string(), /*writes=*/false);
  telemetry.start(0, 10);
  telemetry.step(at(1));
  EXPECT_FALSE(std::filesystem::exists(dir.file("metrics.jsonl")));
}

TEST(Metrics, AFolderThatCannotBeWrittenDoesNotEndTheRun) {
  Telemetry telemetry(kQuiet, "/proc/nowhere", true);
  telemetry.start(0, 10);
  telemetry.step(at(1));
}

TEST(Metrics, AFullDiskDoesNotEndTheRun) {
  test::TempDir dir;
  Telemetry telemetry(kQuiet, dir.path().string(), true);
  telemetry.start(0, 10);
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  const rlimit tiny{100, old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &tiny);
  ::testing::internal::CaptureStderr();
  telemetry.step(at(1));
  telemetry.step(at(2));
  const std::string said = ::testing::internal::GetCapturedStderr();
  setrlimit(RLIMIT_FSIZE, &old);
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  EXPECT_THAT(said, HasSubstr("metrics.jsonl: File too large; the run goes on"));
}

Pace pace() {
  return {.total_steps = 500,
          .smooth_tokens_per_second = 5612,
          .seconds_left = 200,
          .memory_peak_bytes = size_t{1300} << 20};
}

TEST(ProgressText, SaysWhatAPersonAsksFirst) {
  EXPECT_EQ(progress_text(at(120), pace(), 60), "step 120/500  24%  loss 2.5000  5.61k tokens/s");
  EXPECT_THAT(progress_text(at(120), pace(), 200), HasSubstr("ETA 3 min 20 s  1.27 GiB  lr 0.001"));
  EXPECT_EQ(progress_text(at(120), pace(), 5), "step ");
}

TEST(ProgressText, SpeedIsShownAsFlopsAndAsAShareOfThePeak) {
  Pace fast = pace();
  fast.smooth_tflops = 513.4;
  fast.smooth_mfu = 0.519;
  EXPECT_THAT(progress_text(at(120), fast, 200),
              HasSubstr("5.61k tokens/s  513 TFLOP/s 52% MFU  ETA"));
  fast.smooth_tflops = 0.3801;
  fast.smooth_mfu = 0;
  EXPECT_THAT(progress_text(at(120), fast, 200), HasSubstr("tokens/s  380 GFLOP/s  ETA"));
}

TEST(ProgressText, SkippedStepsAreSeen) {
  StepMetrics metrics = at(3);
  metrics.skipped = 2;
  EXPECT_THAT(progress_text(metrics, pace(), 200), HasSubstr("loss 2.5000  2 skipped"));
}

TEST(ProgressText, AccuracyIsInPercent) {
  Json figures;
  figures.set("loss", 1.25);
  figures.set("accuracy", 0.7125);
  EXPECT_EQ(evaluation_text(50, figures), "step 50: held-out loss 1.25, accuracy 71.2 %");
}

TEST(PlainLines, AppearEveryFewStepsAndAtBothEnds) {
  std::string out;
  PlainLines plain([&](const std::string& text) { out += text; }, 10);
  plain.start(0, 25);
  Pace p = pace();
  p.total_steps = 25;
  for (int64_t step = 1; step <= 25; ++step) plain.step(at(step), p);
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 4);  // 1, 10, 20, 25
  EXPECT_THAT(out, Not(HasSubstr("\r")));
}

TEST(LiveLine, LogLinesAppearAboveIt) {
  std::string out;
  LiveLine live([&](const std::string& text) { out += text; }, [] { return size_t{40}; });
  live.start(0, 500);
  live.step(at(1), pace());
  EXPECT_THAT(out, HasSubstr("\rstep 1/500  0%  loss 2.5000"));
  out.clear();
  ::testing::internal::CaptureStderr();
  log::warn("careful");
  ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(out, "\r\x1b[K");
  out.clear();
  live.checkpoint(1, 0.5);
  EXPECT_THAT(out, ::testing::StartsWith("step 1: checkpoint saved in 500 ms\n\rstep 1/500"));
  out.clear();
  live.finish();
  EXPECT_THAT(out, ::testing::EndsWith("\n"));
}

TEST(LiveLine, NeverWrapsAndEndsWithTheLastStep) {
  std::string out;
  LiveLine live([&](const std::string& text) { out += text; }, [] { return size_t{40}; });
  for (int64_t step = 1; step <= 500; ++step) live.step(at(step), pace());
  live.finish();
  EXPECT_THAT(out, HasSubstr("step 500/500  100%"));
  EXPECT_LT(std::count(out.begin(), out.end(), '\r'), 50);  // not one a step
  for (size_t i = 0; i < out.size();) {
    const size_t end = std::min(out.find('\r', i + 1), out.size());
    EXPECT_LE(end - i, 40u + 4);
    i = end;
  }
}

}  // namespace
}  // namespace weft::telemetry
