// A call that does not end ends the run, with a message that names it.
#include "parallel/watchdog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>

#include "core/base/error.h"

namespace weft::parallel {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

struct FakeCall : Watchdog::Call {
  std::atomic<bool> started = true, over = false, broken = false;
  bool running() override { return started; }
  bool finished() override {
    if (broken) fail(ErrorKind::unavailable, "an illegal address");
    return over;
  }
};

// A watchdog with short limits, and what it says when it ends the run.
class Guarded : public ::testing::Test {
 protected:
  Guarded() { start({.limit_seconds = 0.6}); }
  void start(Watchdog::Options options) {
    dog_.reset();
    said_ = {};
    options.who = "[nccl] rank 1 of 2";
    options.patience_seconds = 0.1;
    options.log = log_;
    options.end_run = [this](const std::string& message) { said_.set_value(message); };
    dog_ = std::make_unique<Watchdog>(std::move(options));
  }
  std::shared_ptr<FakeCall> watch(const std::string& name) {
    auto call = std::make_shared<FakeCall>();
    dog_->watch(call, log_->add({.op = name}), name);
    return call;
  }
  std::string said(std::chrono::milliseconds within) {
    std::future<std::string> message = said_.get_future();
    return message.wait_for(within) == std::future_status::ready ? message.get() : "nothing";
  }
  CallState state(size_t record) const { return log_->records()[record].state; }

  std::shared_ptr<CallLog> log_ = std::make_shared<CallLog>();
  std::promise<std::string> said_;
  std::unique_ptr<Watchdog> dog_;
};

TEST_F(Guarded, ACallThatEndsIsDoneInTheLog) {
  const auto first = watch("first"), second = watch("second");
  std::this_thread::sleep_for(100ms);
  EXPECT_EQ(state(0), CallState::running);
  EXPECT_EQ(state(1), CallState::queued);
  first->over = second->over = true;
  EXPECT_EQ(said(800ms), "nothing");
  EXPECT_EQ(state(0), CallState::done);
  EXPECT_EQ(state(1), CallState::done);
}

TEST_F(Guarded, ACallThatDoesNotEndEndsTheRun) {
  watch("first")->over = true;
  watch("reduce_scatter of model.layers.3 (call 812)");
  EXPECT_THAT(said(10s), AllOf(HasSubstr("[nccl] rank 1 of 2"),
                               HasSubstr("reduce_scatter of model.layers.3 (call 812)"),
                               HasSubstr("did a rank die")));
  EXPECT_EQ(state(1), CallState::failed);
}

TEST_F(Guarded, ACallWhoseTurnHasNotComeMayTakeAsLongAsItLikes) {
  const auto call = watch("behind a long kernel");
  call->started = false;
  std::this_thread::sleep_for(900ms);
  call->started = true;
  std::this_thread::sleep_for(50ms);
  call->over = true;
  EXPECT_EQ(said(800ms), "nothing");
}

TEST_F(Guarded, ARankThatIsGoneIsNamedAtOnce) {
  start({.limit_seconds = 60, .gone = [] { return "rank 0 (process 7) is gone"; }});
  watch("all_gather");
  EXPECT_THAT(said(10s), HasSubstr("rank 0 (process 7) is gone"));
}

TEST_F(Guarded, WhatTheLibraryReportsIsSaidAtOnce) {
  start({.limit_seconds = 60, .broken = [] { return "remote process exited"; }});
  watch("all_gather");
  EXPECT_THAT(said(10s), HasSubstr("remote process exited"));
}

TEST_F(Guarded, AnErrorOfTheGpuEndsTheRunToo) {
  const auto call = watch("all_gather");
  call->broken = true;
  EXPECT_THAT(said(10s), HasSubstr("an illegal address"));
}

}  // namespace
}  // namespace weft::parallel
