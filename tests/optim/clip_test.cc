#include "optim/clip.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace weft::optim {
namespace {

// Two shards of each of three ranks.
Tensor gathered(std::vector<double> sums, int64_t ranks) {
  const Tensor t = Tensor::empty({ranks, static_cast<int64_t>(sums.size()) / ranks}, DType::f64);
  std::copy(sums.begin(), sums.end(), t.data<double>());
  return t;
}

TEST(Clip, FactorIsThatOfTorchClipGradNorm) {
  const Tensor sums = gathered({1, 2, 3, 4, 5, 10}, 3);
  const Clip hard = clip(sums, 1.0);
  EXPECT_EQ(hard.norm, 5);
  EXPECT_EQ(hard.factor, static_cast<float>(1.0 / (5 + 1e-6)));
  EXPECT_EQ(hard.control.data<float>()[0], hard.factor);
  EXPECT_EQ(hard.control.data<float>()[1], 1);
  EXPECT_EQ(clip(sums, 10).factor, 1);
  EXPECT_EQ(clip(sums, 0).factor, 1);  // off
  EXPECT_EQ(clip(sums, 0).norm, 5);
}

TEST(Clip, AddsInShardThenRankOrder) {
  const double big = 1e16;  // 1 disappears beside it, unless small numbers come first
  EXPECT_EQ(clip(gathered({1, big, 1, 0}, 2), 0).norm, std::sqrt((1.0 + 1.0) + big));
  EXPECT_EQ(clip(gathered({big, 1, 0, 1}, 2), 0).norm, std::sqrt(((big + 0) + 1.0) + 1.0));
}

TEST(Clip, WhatIsNotFiniteMakesTheUpdateANoOp) {
  for (double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    const Clip result = clip(gathered({1, bad}, 1), 1.0);
    EXPECT_FALSE(result.finite);
    EXPECT_EQ(result.control.data<float>()[1], 0);
    EXPECT_TRUE(std::isfinite(result.control.data<float>()[0]));
  }
  const Clip loss = clip(gathered({1, 1}, 1), 1.0, /*loss_finite=*/false);
  EXPECT_FALSE(loss.finite);
  EXPECT_EQ(loss.control.data<float>()[1], 0);
}

TEST(Clip, SumsOfSquaresAreOneAShardAndNeverNone) {
  nn::Shard shard;
  shard.grad = Tensor::zeros({32}, DType::f32);
  shard.grad.data<float>()[3] = 3;
  shard.grad.data<float>()[31] = -4;
  const Tensor sums = sums_of_squares({shard, shard});
  ASSERT_EQ(sums.numel(), 2);
  EXPECT_EQ(sums.data<double>()[1], 25);
  EXPECT_EQ(sums_of_squares({}).numel(), 1);
  EXPECT_EQ(*sums_of_squares({}).data<double>(), 0);
}

}  // namespace
}  // namespace weft::optim
