#include "core/tensor/device_graph.h"

#include <gtest/gtest.h>

#include <thread>

#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"
#include "core/tensor/device_memory.h"
#include "tests/support/tensors.h"

namespace weft {
namespace {

Tensor block() {
  return Tensor::empty({77777}, DType::f32, {}, MemoryTag::workspace);
}

TEST(MemoryReserve, ItsBlocksServeItAloneUntilItIsGone) {
  void *inside, *kept_at;
  {
    Tensor kept;
    {
      MemoryReserve reserve({});
      reserve.begin();
      inside = block().raw();
      EXPECT_EQ(block().raw(), inside);  // freed and taken again within
      kept = block();
      kept_at = kept.raw();
      Tensor second = block();
      EXPECT_NE(second.raw(), kept_at);
      inside = second.raw();
      second = {};
      reserve.end();
      const Tensor other = block(), another = block();
      EXPECT_NE(other.raw(), inside);
      EXPECT_NE(another.raw(), inside);
      release_cached_memory();  // does not touch what is reserved
      reserve.begin();
      EXPECT_EQ(block().raw(), inside);
    }
    EXPECT_EQ(block().raw(), inside);  // anybody's again
  }
  EXPECT_EQ(block().raw(), kept_at);  // so is what outlived the reserve
}

TEST(MemoryReserve, AnotherThreadTakesNothingOfIt) {
  MemoryReserve reserve({});
  reserve.begin();
  void* const inside = block().raw();
  std::thread([&] { EXPECT_NE(block().raw(), inside); }).join();
  EXPECT_THROW(MemoryReserve({}).begin(), Error);
}

class DeviceGraphTest : public testing::Test {
 protected:
  void SetUp() override {
    if (device_memory::count() == 0) GTEST_SKIP() << "needs a GPU: " << device_memory::why_none();
    test::device_of_test() = device_;
  }
  void TearDown() override { test::device_of_test() = {}; }
  Device device_{DeviceKind::cuda, 0};
};

TEST_F(DeviceGraphTest, ReplaysWhatWasRecordedAndRunsNothingBefore) {
  const Tensor x = test::from_doubles({1, 2, 3}, {3}, DType::f32);
  Tensor y = test::from_doubles({0, 0, 0}, {3}, DType::f32);
  const DeviceGraph graph = DeviceGraph::record(device_, [&] {
    ops::axpy(1, x, y);
    ops::axpy(2, ops::add(x, x), y);
  });
  EXPECT_EQ(test::to_doubles(y), (std::vector<double>{0, 0, 0}));
  graph.replay();
  graph.replay();
  EXPECT_EQ(test::to_doubles(y), (std::vector<double>{10, 20, 30}));
}

TEST_F(DeviceGraphTest, OtherWorkInBetweenDoesNotDisturbItNorItOthers) {
  const Tensor a = test::random_tensor({64, 96}, DType::bf16, 1);
  const Tensor b = test::random_tensor({96, 48}, DType::bf16, 2);
  const auto product = [&] {
    const Tensor sum = ops::add(a, a);
    const Tensor c = Tensor::empty({64, 48}, DType::f32, device_);
    ops::matmul(sum, b, c);
    return c;
  };
  const Tensor want = product().clone();
  Tensor result;
  const DeviceGraph graph = DeviceGraph::record(device_, [&] { result = product(); });
  for (int i = 0; i < 3; ++i) {
    std::vector<Tensor> others;  // live across the replay, of the sizes that it works with
    for (int n = 0; n < 8; ++n) others.push_back(test::random_tensor({64, 96}, DType::bf16, 9));
    release_cached_memory(device_);
    graph.replay();
    EXPECT_TRUE(test::same_bytes(result, want));
    for (const Tensor& other : others)
      EXPECT_TRUE(test::same_bytes(other, test::random_tensor({64, 96}, DType::bf16, 9)));
  }
}

TEST_F(DeviceGraphTest, ARecordingThatFailsLeavesTheStreamAsItWas) {
  const Tensor x = test::from_doubles({1, 2}, {2}, DType::f32);
  EXPECT_THROW(DeviceGraph::record(device_, [&] { x.to({}); }), Error);
  const Tensor on_host = Tensor::zeros({2}, DType::f32);
  EXPECT_THROW(DeviceGraph::record(device_, [&] { x.copy_from(on_host); }), Error);
  EXPECT_THROW(DeviceGraph::record(device_, [] { fail(ErrorKind::internal, "no"); }), Error);
  EXPECT_EQ(test::to_doubles(ops::add(x, x)), (std::vector<double>{2, 4}));
}

TEST_F(DeviceGraphTest, MayTakeNewMemoryWhileItRecords) {
  release_cached_memory(device_);
  Tensor y;
  const DeviceGraph graph = DeviceGraph::record(device_, [&] {
    y = Tensor::zeros({12345678}, DType::f32, device_);
    ops::fill(y, 3);
  });
  graph.replay();
  EXPECT_EQ(test::to_doubles(y.flat(12345677, {1}))[0], 3);
}

}  // namespace
}  // namespace weft
