#include "core/models/recompute.h"

#include <gtest/gtest.h>

#include <vector>

namespace weft::models {
namespace {

std::vector<size_t> offloaded(size_t count, size_t blocks) {
  const RecomputePlan plan = RecomputePlan(Recompute::none).with_offload(count, blocks);
  std::vector<size_t> found;
  for (size_t layer = 0; layer < blocks; ++layer)
    if (plan.offloads(layer)) found.push_back(layer);
  return found;
}

TEST(RecomputePlan, OffloadsAsManyBlocksAsItSaysAndTheLastOnlyWithAllOthers) {
  for (size_t blocks = 1; blocks <= 130; ++blocks)
    for (size_t count = 0; count <= blocks; ++count) {
      const std::vector<size_t> found = offloaded(count, blocks);
      ASSERT_EQ(found.size(), count) << blocks;
      if (count > 0 && count < blocks) ASSERT_LT(found.back(), blocks - 1) << count;
    }
}

TEST(RecomputePlan, SpreadsThemEvenly) {
  EXPECT_EQ(offloaded(0, 8), (std::vector<size_t>{}));
  EXPECT_EQ(offloaded(1, 8), (std::vector<size_t>{0}));
  EXPECT_EQ(offloaded(2, 8), (std::vector<size_t>{0, 4}));
  EXPECT_EQ(offloaded(3, 8), (std::vector<size_t>{0, 2, 5}));
  EXPECT_EQ(offloaded(7, 8), (std::vector<size_t>{0, 1, 2, 3, 4, 5, 6}));
  for (size_t blocks : {16, 30, 32, 80, 126})
    for (size_t count = 2; count <= blocks; ++count) {
      const std::vector<size_t> found = offloaded(count, blocks);
      for (size_t i = 1; i < found.size(); ++i) {
        const size_t gap = found[i] - found[i - 1];
        ASSERT_TRUE(gap == blocks / count || gap == (blocks + count - 1) / count)
            << gap << " for " << count << " of " << blocks;
      }
    }
}

TEST(RecomputePlan, ItsModeHoldsForTheFirstLayers) {
  const RecomputePlan full(Recompute::full, 2), selective(Recompute::selective, 2);
  EXPECT_EQ(full.of(1), Recompute::full);
  EXPECT_EQ(full.of(2), Recompute::selective);
  EXPECT_EQ(selective.of(1), Recompute::selective);
  EXPECT_EQ(selective.of(2), Recompute::none);
  EXPECT_EQ(RecomputePlan(Recompute::none, 1).of(0), Recompute::none);
  EXPECT_EQ(RecomputePlan(Recompute::full).of(99), Recompute::full);
}

TEST(RecomputePlan, NeverRecomputesAnOffloadedBlockInFull) {
  const RecomputePlan full = RecomputePlan(Recompute::full).with_offload(2, 6);  // 0 and 3
  for (size_t layer = 0; layer < 6; ++layer)
    EXPECT_EQ(full.of(layer), layer % 3 == 0 ? Recompute::selective : Recompute::full) << layer;
  const RecomputePlan some = RecomputePlan(Recompute::full, 2).with_offload(6, 6);
  for (size_t layer = 0; layer < 6; ++layer) EXPECT_EQ(some.of(layer), Recompute::selective);
  for (Recompute mode : {Recompute::none, Recompute::selective}) {
    const RecomputePlan plan = RecomputePlan(mode).with_offload(2, 6);
    for (size_t layer = 0; layer < 6; ++layer) EXPECT_EQ(plan.of(layer), mode);
  }
}

}  // namespace
}  // namespace weft::models
