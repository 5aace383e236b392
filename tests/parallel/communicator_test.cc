// Ranks as threads: every collective, groups, disagreement and failure.
#include "parallel/communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "parallel/thread_communicator.h"
#include "parallel/world.h"
#include "tests/parallel/collectives.h"

namespace weft::parallel {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;

class Collectives : public ::testing::TestWithParam<int> {};

TEST_P(Collectives, AreTheSerialSumInRankOrderToTheBit) {
  std::atomic<int> ran{0};
  run_ranks(GetParam(), [&](Communicator& group) {
    ASSERT_EQ(group.size(), GetParam());
    test::check_collectives(group);
    ++ran;
  });
  EXPECT_EQ(ran, GetParam());
}

TEST_P(Collectives, WorkInGroups) {
  run_ranks(GetParam(), [&](Communicator& group) { test::check_split(group); });
}

TEST_P(Collectives, RunSideBySide) {
  run_ranks(GetParam(), [&](Communicator& group) { test::check_overlap(group); });
}

INSTANTIATE_TEST_SUITE_P(Ranks, Collectives, ::testing::Values(1, 2, 3, 4, 5, 7));

TEST(SelfCommunicator, DoesTheSameAlone) {
  const std::shared_ptr<Communicator> self = make_world(/*under_mpi=*/false);
  EXPECT_EQ(self->size(), 1);
  test::check_collectives(*self);
  test::check_split(*self);
}

// Runs the ranks and returns what they say when they fail.
template <class Body>
std::string failure(int size, Body body) {
  try {
    run_ranks(size, body);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "no failure";
}

TEST(Disagreement, OnTheOperationIsAnErrorThatNamesBoth) {
  EXPECT_THAT(failure(3,
                      [](Communicator& group) {
                        const Tensor x = Tensor::zeros({6}, DType::f32);
                        if (group.rank() == 1)
                          group.broadcast(x, 0).wait();
                        else
                          group.all_reduce(x, Reduce::sum).wait();
                      }),
              AllOf(HasSubstr("disagree"), HasSubstr("broadcast"), HasSubstr("all_reduce")));
}

TEST(Disagreement, OnTheSizeOrTypeIsAnErrorNotAHang) {
  EXPECT_THAT(failure(2,
                      [](Communicator& group) {
                        const Tensor x = Tensor::zeros({6 + group.rank()}, DType::f32);
                        group.all_reduce(x, Reduce::sum).wait();
                      }),
              HasSubstr("disagree"));
  EXPECT_THAT(
      failure(2,
              [](Communicator& group) {
                const Tensor x = Tensor::zeros({6}, DType::f32);
                group.all_reduce(x, Reduce::sum, group.rank() ? "layer 3" : "layer 4").wait();
              }),
      AllOf(HasSubstr("'layer 3'"), HasSubstr("'layer 4'")));
  EXPECT_THAT(failure(2,
                      [](Communicator& group) {
                        const DType dtype = group.rank() ? DType::f64 : DType::f32;
                        group.all_reduce(Tensor::zeros({6}, dtype), Reduce::sum).wait();
                      }),
              HasSubstr("disagree"));
  EXPECT_THAT(failure(2,
                      [](Communicator& group) {
                        const Tensor x = Tensor::zeros({6 + group.rank()}, DType::f32);
                        const Tensor y = Tensor::zeros({6}, DType::f32);
                        group.send_receive({{1 - group.rank(), x}}, {{1 - group.rank(), y}}).wait();
                      }),
              HasSubstr("bytes"));
}

TEST(Failure, OfOneRankEndsTheCallsOfAllWithItsMessage) {
  const auto begin = std::chrono::steady_clock::now();
  std::atomic<int> ended{0};
  const std::string message = failure(5, [&](Communicator& group) {
    const auto other = group.split(0, group.rank(), "other");
    if (group.rank() == 3) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      fail(ErrorKind::io, "disk full");
    }
    try {
      if (group.rank() % 2)
        group.barrier();
      else
        other->gather_bytes("x");
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::io);
      EXPECT_STREQ(error.what(), "rank 3 failed: disk full");
      ++ended;
      throw;
    }
  });
  EXPECT_EQ(message, "disk full");
  EXPECT_EQ(ended, 4);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

TEST(Failure, KeepsTheTypeOfTheFirstException) {
  EXPECT_THROW(run_ranks(2,
                         [](Communicator& group) {
                           if (group.rank() == 0) throw std::out_of_range("mine");
                           group.barrier();
                         }),
               std::out_of_range);
}

TEST(CallLog, TellsWhatARankIsWaitingFor) {
  run_ranks(2, [](Communicator& group) {
    const Tensor x = Tensor::zeros({4096}, DType::f32);
    Work work;
    if (group.rank() == 0) {
      work = group.reduce_scatter(x, Tensor::zeros({2048}, DType::f32), "model.layers.3");
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      EXPECT_FALSE(work.done());
      EXPECT_THAT(group.log().text(),
                  AllOf(HasSubstr("world 0/2 call 0: reduce_scatter model.layers.3"),
                        HasSubstr("f32[4096] -> f32[2048]"), HasSubstr("running")));
      EXPECT_GT(group.log().oldest_unfinished_seconds(), 0.01);
      group.gather_bytes("now");
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(60));
      work = group.reduce_scatter(x, Tensor::zeros({2048}, DType::f32), "model.layers.3");
      group.gather_bytes("now");
    }
    work.wait();
    EXPECT_EQ(group.log().oldest_unfinished_seconds(), 0);
    const Json calls = group.log().json();
    ASSERT_EQ(calls.as_array().size(), 3u);
    EXPECT_EQ(calls.as_array()[0].at("state").as_string(), "done");
    EXPECT_EQ(calls.as_array()[1].at("op").as_string(), "all_gather");
  });
}

TEST(CallLog, IsARing) {
  const auto self = make_self();
  for (int i = 0; i < 1000; ++i) self->barrier();
  EXPECT_EQ(self->log().records().size(), 256u);
  EXPECT_EQ(self->log().records().back().sequence, 999u);
}

}  // namespace
}  // namespace weft::parallel
