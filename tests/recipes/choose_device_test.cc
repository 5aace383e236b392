// Every rank has a GPU of its own, or all of them compute on the CPU.
#include "recipes/choose_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "parallel/thread_communicator.h"

namespace weft::recipes {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const DeviceClaim kNone{"b", "", 0, "no driver"};

DeviceClaim on(const std::string& host, const std::string& gpu, int gpus = 2) {
  return {host, gpu, gpus, ""};
}

std::string refusal(const std::vector<DeviceClaim>& claims, DeviceChoice choice) {
  try {
    agree_on_gpus(claims, choice);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unavailable);
    return error.what();
  }
  return "none";
}

TEST(ChooseDevice, GpusAreUsedWhereEveryRankHasItsOwn) {
  EXPECT_TRUE(agree_on_gpus({on("a", "0:1"), on("a", "0:2"), on("b", "0:1"), on("b", "0:2")},
                            DeviceChoice::automatic));
  EXPECT_TRUE(agree_on_gpus({on("a", "0:1")}, DeviceChoice::cuda));
}

TEST(ChooseDevice, WithoutAnyGpuAutoIsTheCpuAndCudaAnError) {
  EXPECT_FALSE(agree_on_gpus({kNone, kNone}, DeviceChoice::automatic));
  EXPECT_THAT(refusal({kNone, kNone}, DeviceChoice::cuda), HasSubstr("no driver"));
}

TEST(ChooseDevice, TwoRanksOnOneGpuAreNamed) {
  EXPECT_THAT(refusal({on("a", "0:1"), on("a", "0:2"), on("a", "0:1")}, DeviceChoice::automatic),
              AllOf(HasSubstr("ranks 0 and 2 would share the GPU 0:1 of host a"),
                    HasSubstr("sees 2"), HasSubstr("train.device=cpu")));
}

TEST(ChooseDevice, RanksWithoutAGpuAmongOthersAreNamed) {
  EXPECT_THAT(refusal({on("a", "0:1"), kNone, kNone}, DeviceChoice::automatic),
              AllOf(HasSubstr("ranks 1 and 2 (on host b)"), HasSubstr("no driver")));
}

TEST(ChooseDevice, TheCpuIsAlwaysThere) {
  parallel::run_ranks(3, [](parallel::Communicator& world) {
    EXPECT_TRUE(choose_device(DeviceChoice::cpu, world.rank(), world).is_cpu());
  });
}

}  // namespace
}  // namespace weft::recipes
