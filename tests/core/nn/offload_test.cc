#include "core/nn/offload.h"

#include <gtest/gtest.h>

#include "core/ops/elementwise.h"
#include "core/tensor/allocator.h"
#include "tests/support/errors.h"
#include "tests/support/tensors.h"

namespace weft::nn {
namespace {

constexpr int64_t kNumel = 3000 * 1001;  // long enough for a GPU's copies to be seen under way

// One body for both; the GPU's is skipped where there is none.
class OffloadTest : public testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    if (!device().is_cpu() && device_memory::count() == 0)
      GTEST_SKIP() << "needs a GPU: " << device_memory::why_none();
    test::device_of_test() = device();
  }
  void TearDown() override { test::device_of_test() = {}; }
  static Device device() { return GetParam(); }
  static size_t in_use() { return memory_use(MemoryTag::activation, device()).current; }

  static Tensor filled(float value, int64_t numel = kNumel) {
    const Tensor t = Tensor::empty({numel}, DType::f32, device());
    ops::fill(t, value);
    return t;
  }
  static Tape tape_of(const std::vector<Tensor>& tensors) {
    Tape tape;
    for (const Tensor& t : tensors) tape.push(t);
    return tape;
  }
  // Takes memory that is free now and writes over it.
  static void disturb() {
    std::vector<Tensor> others;
    for (int i = 0; i < 4; ++i) others.push_back(filled(-1));
  }
};

TEST_P(OffloadTest, GivesBackEveryBitWhateverUsesTheMemoryMeanwhile) {
  constexpr int kTapes = 5;
  HostSpace space;
  for (int micro_batch = 0; micro_batch < 3; ++micro_batch) {
    std::vector<Tape> tapes;
    Offload offload(space, device());
    const auto value = [&](int i) { return static_cast<float>(10 * micro_batch + i + 1); };
    for (int i = 0; i < kTapes; ++i) {
      tapes.push_back(tape_of({filled(value(i)), filled(value(i) + 0.5f, 7)}));
      offload.send(tapes.back(), static_cast<size_t>(i));
      disturb();
    }
    offload.settle();
    disturb();
    for (int i = kTapes; i-- > 0;) {
      offload.receive(tapes[i]);
      offload.fetch();
      disturb();
      EXPECT_TRUE(test::same_bytes(tapes[i].pop(), filled(value(i) + 0.5f, 7))) << i;
      EXPECT_TRUE(test::same_bytes(tapes[i].pop(), filled(value(i)))) << i;
    }
  }
}

TEST_P(OffloadTest, FreesTheDevicesMemoryWhileItWaits) {
  const size_t before = in_use();
  HostSpace space;
  Tape one = tape_of({filled(1)}), two = tape_of({filled(2)});
  const size_t held = in_use();
  Offload offload(space, device());
  offload.send(one, 0);
  offload.send(two, 1);
  EXPECT_EQ(in_use() - before, (held - before) / 2);  // the second is under way
  offload.settle();
  EXPECT_EQ(in_use(), before);
  offload.fetch();
  offload.fetch();  // one at a time
  EXPECT_EQ(in_use() - before, (held - before) / 2);
  offload.receive(two);
  offload.receive(one);
  EXPECT_EQ(in_use(), held);
}

TEST_P(OffloadTest, MovesASharedStorageOnceAndItsViewsStayViews) {
  HostSpace space;
  const Tensor whole = test::random_tensor({8, 33}, DType::f32, 1);
  const Tensor want = whole.clone();
  Tape tape = tape_of({whole.rows(2, 4), whole.rows(3, 7), whole.rows(2, 7).reshape({165})});
  Offload offload(space, device());
  offload.send(tape, 0);
  EXPECT_LT(space.bytes(), 5 * 33 * sizeof(float) + 64);
  offload.receive(tape);
  const Tensor flat = tape.pop(), later = tape.pop(), first = tape.pop();
  EXPECT_TRUE(flat.same_storage(later) && flat.same_storage(first));
  EXPECT_EQ(static_cast<char*>(later.raw()) - static_cast<char*>(first.raw()), 33 * 4);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first.raw()) % 64,
            reinterpret_cast<uintptr_t>(whole.rows(2, 4).raw()) % 64);
  EXPECT_EQ(first.shape(), Shape({2, 33}));
  EXPECT_EQ(flat.shape(), Shape({165}));
  EXPECT_TRUE(flat.device() == device());
  EXPECT_TRUE(test::same_bytes(first, want.rows(2, 4)));
  EXPECT_TRUE(test::same_bytes(later, want.rows(3, 7)));
  EXPECT_TRUE(test::same_bytes(flat, want.rows(2, 7)));
}

TEST_P(OffloadTest, RecipesMakeTheSameFromWhatCameBack) {
  HostSpace space;
  const Tensor weight = filled(3, 9);  // a parameter: the recipe's own
  Tensor x = test::random_tensor({9}, DType::f32, 1);
  Tensor y = ops::add(x, weight);
  const Tensor want_x = x.clone(), want_y = y.clone();
  Tape tape(Tape::Keep::expensive);
  {
    Tape::Rebuildable cheap(tape, y, {{x}, [weight](const std::vector<Tensor>& from) {
                                        return ops::add(from[0], weight);
                                      }});
    tape.push(x);
    tape.push(y);
  }
  const size_t before = in_use();
  x = y = {};
  Offload offload(space, device());
  offload.send(tape, 0);
  offload.settle();
  EXPECT_LT(in_use(), before);
  offload.receive(tape);
  EXPECT_TRUE(test::same_bytes(tape.pop(), want_y));
  EXPECT_TRUE(test::same_bytes(tape.pop(), want_x));
}

TEST_P(OffloadTest, LeavesATensorOfNothingAsItIs) {
  HostSpace space;
  Tape tape = tape_of({Tensor(), Tensor::empty({0, 4}, DType::bf16, device())});
  Offload offload(space, device());
  offload.send(tape, 0);
  offload.receive(tape);
  EXPECT_EQ(tape.pop().shape(), Shape({0, 4}));
  EXPECT_FALSE(tape.pop().defined());
  EXPECT_EQ(space.bytes(), 0u);
}

TEST_P(OffloadTest, HostMemoryIsTakenOnceAndGrowsWithTheLargest) {
  HostSpace space;
  const auto pass = [&](int64_t numel) {
    Tape one = tape_of({filled(1, numel)}), two = tape_of({filled(2, numel)});
    Offload offload(space, device());
    offload.send(one, 0);
    offload.send(two, 1);
    offload.receive(two);
    offload.receive(one);
    EXPECT_TRUE(test::same_bytes(one.pop(), filled(1, numel)));
    EXPECT_TRUE(test::same_bytes(two.pop(), filled(2, numel)));
    return space.bytes();
  };
  EXPECT_EQ(pass(16000), 2u * 64000);
  EXPECT_EQ(pass(16000), 2u * 64000);
  EXPECT_EQ(pass(1600), 2u * 64000);
  const size_t grown = pass(16001);
  EXPECT_GT(grown, 2u * 64000);
  EXPECT_LT(grown, 2u * 64000 * 5 / 4);
  EXPECT_EQ(pass(16500), grown);  // it took some to spare
}

TEST_P(OffloadTest, AMicroBatchThatEndsEarlyLeavesNothingUnderWay) {
  HostSpace space;
  for (int i = 0; i < 20; ++i) {
    std::vector<Tape> tapes;
    Offload offload(space, device());
    for (int n = 0; n < 3; ++n) {
      tapes.push_back(tape_of({filled(7)}));
      offload.send(tapes.back(), static_cast<size_t>(n));
    }
    if (i % 2) offload.fetch();  // into memory that is freed before it arrives
  }
  const Tensor next = filled(3);
  const Tensor host = next.to({});
  for (int64_t i = 0; i < kNumel; ++i) ASSERT_EQ(host.data<float>()[i], 3) << i;
}

#ifndef __SANITIZE_ADDRESS__  // which ends the process over such a size
TEST_P(OffloadTest, HostMemoryThatIsNotThereIsOneErrorThatSaysWhatToDo) {
  HostSpace space;
  const std::string said =
      test::error_of(ErrorKind::unavailable, [&] { space.block(0, size_t{1} << 50, device()); });
  EXPECT_NE(said.find("1.00 PiB"), std::string::npos) << said;
  EXPECT_NE(said.find("Lower train.offload_layers"), std::string::npos) << said;
  EXPECT_EQ(space.bytes(), 0u);
}

#endif

std::vector<Device> devices() {
  std::vector<Device> all{Device()};
#ifdef WEFT_HAS_CUDA
  all.push_back({DeviceKind::cuda, 0});
#endif
  return all;
}

INSTANTIATE_TEST_SUITE_P(Devices, OffloadTest, testing::ValuesIn(devices()),
                         [](const testing::TestParamInfo<Device>& info) {
                           return std::string(info.param.is_cpu() ? "cpu" : "cuda");
                         });

}  // namespace
}  // namespace weft::nn
