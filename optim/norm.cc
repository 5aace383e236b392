#include "optim/norm.h"

#include "core/ops/elementwise.h"

namespace weft::optim {

void sums_of_squares(const std::vector<nn::Shard>& shards, const Tensor& sums) {
  std::vector<Tensor> grads;
  for (const nn::Shard& shard : shards) grads.push_back(shard.grad);
  ops::sums_of_squares(grads, sums);
}

}  // namespace weft::optim
