#include "optim/clip.h"

#include <algorithm>
#include <cmath>

#include "core/ops/elementwise.h"

namespace weft::optim {

Tensor sums_of_squares(const std::vector<nn::Shard>& shards) {
  const int64_t n = std::max<int64_t>(1, static_cast<int64_t>(shards.size()));
  const Device device = shards.empty() ? Device{} : shards[0].grad.device();
  const Tensor sums = Tensor::zeros({n}, DType::f64, device);
  for (size_t i = 0; i < shards.size(); ++i)
    ops::sum_squares(shards[i].grad, sums.flat(static_cast<int64_t>(i), {1}));
  return sums.to({});
}

Clip clip(const Tensor& gathered, double max_norm, bool loss_finite) {
  CHECK(gathered.rank() == 2, "sums of squares {}", gathered.shape().to_string());
  const double* sums = gathered.data<double>();
  double total = 0;
  for (int64_t shard = 0; shard < gathered.dim(1); ++shard)
    for (int64_t rank = 0; rank < gathered.dim(0); ++rank)
      total += sums[rank * gathered.dim(1) + shard];

  Clip result;
  result.norm = std::sqrt(total);
  result.finite = loss_finite && std::isfinite(result.norm);
  if (result.finite && max_norm > 0)
    result.factor = static_cast<float>(std::min(1.0, max_norm / (result.norm + 1e-6)));
  result.control = Tensor::empty({2}, DType::f32);
  result.control.data<float>()[0] = result.factor;
  result.control.data<float>()[1] = result.finite ? 1.0f : 0.0f;
  return result;
}

}  // namespace weft::optim
