#include "core/telemetry/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "core/base/json.h"
#include "tests/support/test_data.h"

namespace weft::telemetry {
namespace {

using ::testing::ElementsAre;

struct Event {
  std::string name;
  int64_t row = 0;
  double begin = 0, end = 0;
};

std::vector<Event> events_of(const std::string& path, int64_t rank = 0) {
  const Json trace = Json::parse_file(path);
  std::vector<Event> events;
  for (const Json& e : trace.at("traceEvents").as_array()) {
    EXPECT_EQ(e.at("pid").as_int(), rank);
    if (e.at("ph").as_string() != "X") continue;
    const double begin = e.at("ts").as_double();
    events.push_back(
        {e.at("name").as_string(), e.at("tid").as_int(), begin, begin + e.at("dur").as_double()});
  }
  return events;
}

std::vector<std::string> names_of(const std::vector<Event>& events) {
  std::vector<std::string> names;
  for (const Event& e : events) names.push_back(e.name);
  return names;
}

// Two events of a row are one inside the other, or apart: what a viewer of "X" events needs.
void expect_nested(const std::vector<Event>& events) {
  constexpr double kRounding = 1e-3;  // of a microsecond
  for (const Event& a : events)
    for (const Event& b : events) {
      if (a.row != b.row || &a == &b) continue;
      const bool apart = a.end <= b.begin + kRounding || b.end <= a.begin + kRounding;
      const bool inside = (a.begin >= b.begin - kRounding && a.end <= b.end + kRounding) ||
                          (b.begin >= a.begin - kRounding && b.end <= a.end + kRounding);
      EXPECT_TRUE(apart || inside) << a.name << " and " << b.name;
    }
}

void steps(int count) {
  for (int i = 0; i < count; ++i) {
    const StepSpan step;
    const Span forward("forward");
    const Span layer("layer", 3);
  }
}

TEST(Trace, HoldsTheStepsThatWereAskedForAndNothingBeforeOrBehind) {
  test::TempDir dir;
  const std::string path = dir.file("trace.json");
  const Tracer tracer({.path = path, .after = 2, .steps = 2});
  EXPECT_FALSE(tracing());
  steps(3);
  EXPECT_TRUE(tracing());
  EXPECT_FALSE(std::filesystem::exists(path));
  steps(4);
  EXPECT_FALSE(tracing());
  const auto events = events_of(path);
  EXPECT_THAT(names_of(events),
              ElementsAre("step 3", "forward", "layer 3", "step 4", "forward", "layer 3"));
  expect_nested(events);
  EXPECT_GE(events[0].begin, 0);
}

TEST(Trace, ARunThatEndsEarlyLeavesWhatItDid) {
  test::TempDir dir;
  {
    const Tracer tracer({.path = dir.file("trace.json"), .after = 0, .steps = 10});
    steps(2);
  }
  EXPECT_FALSE(tracing());
  EXPECT_EQ(events_of(dir.file("trace.json")).size(), 6u);
}

TEST(Trace, ARunThatFailsLeavesTheSpansThatItDiedIn) {
  test::TempDir dir;
  try {
    const Tracer tracer({.path = dir.file("trace.json"), .after = 0, .steps = 10});
    const StepSpan step;
    const Span forward("forward");
    throw std::runtime_error("as it goes");
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(events_of(dir.file("trace.json")).size(), 2u);
}

TEST(Trace, OtherRanksWriteBesideIt) {
  test::TempDir dir;
  {
    const Tracer tracer({.path = dir.file("new/trace.json"), .after = 0, .steps = 1, .rank = 3});
    steps(1);
  }
  EXPECT_EQ(events_of(dir.file("new/trace.rank3.json"), 3).size(), 3u);
}

TEST(Trace, SideWorkHasItsOwnRowWithoutOverlap) {
  test::TempDir dir;
  {
    const Tracer tracer({.path = dir.file("trace.json"), .after = 0, .steps = 1});
    const StepSpan step;
    SideSpan first("reduce", "lm_head", nullptr), second("reduce", "model.layers.1", nullptr);
    first.issued();  // a thread makes it: not the end
    SideSpan same = second;
    first.end();
    first.end();
    same.end();
    second.end();
  }
  const auto events = events_of(dir.file("trace.json"));
  EXPECT_THAT(names_of(events), ElementsAre("step 1", "reduce lm_head", "reduce model.layers.1"));
  EXPECT_THAT((std::vector{events[0].row, events[1].row, events[2].row}), ElementsAre(0, 2, 2));
  expect_nested(events);
  EXPECT_GE(events[2].begin, events[1].end - 1e-3);
}

TEST(Trace, CopiesHaveARowBesideCommunication) {
  test::TempDir dir;
  {
    const Tracer tracer({.path = dir.file("trace.json"), .after = 0, .steps = 1});
    const StepSpan step;
    SideSpan sum("reduce", "lm_head", nullptr);
    SideSpan copy("fetch", "layer 1", nullptr, SideRow::copies);
    copy.end();
    sum.end();
  }
  const auto events = events_of(dir.file("trace.json"));
  EXPECT_THAT((std::vector{events[1].row, events[2].row}), ElementsAre(2, 3));
  EXPECT_LT(events[2].begin, events[1].end);
}

TEST(Trace, IsOfOneThread) {
  test::TempDir dir;
  const Tracer tracer({.path = dir.file("trace.json"), .after = 0, .steps = 1});
  const StepSpan step;
  bool other = true;
  std::thread([&] {
    other = tracing();
    const Span span("elsewhere");
    steps(2);
  }).join();
  EXPECT_TRUE(tracing());
  EXPECT_FALSE(other);
}

TEST(Trace, WithoutATracerNothingHappens) {
  steps(2);
  SideSpan side("reduce", "x", nullptr);
  side.issued();
  side.end();
  EXPECT_FALSE(tracing());
  const Tracer off(TraceOptions{});
  steps(20);
  EXPECT_FALSE(tracing());
}

TEST(Trace, AFileThatCannotBeWrittenDoesNotEndTheRun) {
  const Tracer tracer({.path = "/proc/nowhere/trace.json", .after = 0, .steps = 1});
  ::testing::internal::CaptureStderr();
  steps(3);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              ::testing::HasSubstr("the run goes on without the trace"));
}

}  // namespace
}  // namespace weft::telemetry
