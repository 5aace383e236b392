#include "optim/norm.h"

#include "core/ops/elementwise.h"

namespace weft::optim {

void sums_of_squares(const std::vector<nn::Shard>& shards, const Tensor& sums) {
  CHECK(sums.numel() == static_cast<int64_t>(shards.size()), "{} sums", sums.numel());
  for (size_t i = 0; i < shards.size(); ++i)
    ops::sum_squares(shards[i].grad, sums.flat(static_cast<int64_t>(i), {1}));
}

}  // namespace weft::optim
