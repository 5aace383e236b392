#include "core/tensor/allocator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/tensor/tensor.h"

namespace weft {
namespace {

constexpr int64_t kMany = 1 << 20;

Tensor bytes(int64_t count, MemoryTag tag = MemoryTag::activation) {
  return Tensor::empty({count}, DType::u8, {}, tag);
}

class Allocator : public testing::Test {
 protected:
  Allocator() { release_cached_memory(); }
  ~Allocator() override { limit_memory(0, {}); }
};

TEST_F(Allocator, CountsByTagAndReusesBlocks) {
  const size_t before = memory_use(MemoryTag::workspace).current;
  void* first;
  {
    Tensor t = Tensor::empty({1000, 1000}, DType::f32, {}, MemoryTag::workspace);
    first = t.raw();
    EXPECT_GE(memory_use(MemoryTag::workspace).current, before + 4000000);
  }
  EXPECT_EQ(memory_use(MemoryTag::workspace).current, before);
  EXPECT_EQ(Tensor::empty({1000, 1000}, DType::f32, {}, MemoryTag::workspace).raw(), first);
}

TEST_F(Allocator, AFreedBlockServesWhatIsAsLargeOrALittleSmaller) {
  bytes(kMany);
  const int64_t before = memory_requests();
  for (int64_t count : {kMany, kMany - 1, kMany - kMany / 16}) bytes(count);
  EXPECT_EQ(memory_requests(), before);
  bytes(kMany / 2);  // half of a block would be wasted
  EXPECT_EQ(memory_requests(), before + 1);
}

TEST_F(Allocator, WhatStaysForTheRunTakesNoMoreThanItNeeds) {
  const size_t before = memory_use(MemoryTag::parameter).current;
  const Tensor weight = bytes(33 * kMany + 64, MemoryTag::parameter);
  EXPECT_EQ(memory_use(MemoryTag::parameter).current - before, weight.bytes());
}

TEST_F(Allocator, PastItsLimitIsOutOfMemoryThatSaysWhatWasAskedForAndIsInUse) {
  const Tensor kept = bytes(kMany);
  limit_memory(1, {});
  try {
    bytes(64 * kMany, MemoryTag::workspace);
    FAIL();
  } catch (const OutOfMemory& error) {
    EXPECT_EQ(error.exit_code(), 69);
    EXPECT_THAT(error.what(), testing::HasSubstr("64.0 MiB asked for (workspace)"));
    EXPECT_THAT(error.what(), testing::HasSubstr("activation"));
    EXPECT_THAT(error.what(), testing::HasSubstr("train.memory_limit"));
  }
  limit_memory(0, {});
  EXPECT_EQ(bytes(64 * kMany).numel(), 64 * kMany);
}

}  // namespace
}  // namespace weft
