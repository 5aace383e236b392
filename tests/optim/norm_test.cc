#include "optim/norm.h"

#include <gtest/gtest.h>

namespace weft::optim {
namespace {

TEST(Norm, SumsOfSquaresAreOneAShard) {
  nn::Shard shard;
  shard.grad = Tensor::zeros({32}, DType::f32);
  shard.grad.data<float>()[3] = 3;
  shard.grad.data<float>()[31] = -4;
  const Tensor sums = Tensor::zeros({2}, DType::f64);
  sums_of_squares({shard, shard}, sums);
  EXPECT_EQ(sums.data<double>()[0], 25);
  EXPECT_EQ(sums.data<double>()[1], 25);
}

TEST(Norm, OfNoShardsIsNothing) {
  sums_of_squares({}, Tensor::zeros({0}, DType::f64));
}

}  // namespace
}  // namespace weft::optim
