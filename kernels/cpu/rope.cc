#include "core/ops/rope.h"

#include <cmath>

#include "kernels/cpu/rotate_head.h"

namespace weft::ops::cpu {

void rope_table(const Tensor& positions_T, const Tensor& inv_freq, const Tensor& table) {
  const int64_t half = inv_freq.dim(0);
  const int32_t* positions = positions_T.data<int32_t>();
  const float* frequency = inv_freq.data<float>();
  float* out = table.data<float>();
  constexpr int64_t kCostOfSinAndCos = 16;
  parallel_vectorised(positions_T.dim(0), half * kCostOfSinAndCos, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t i = 0; i < half; ++i) {
        const float angle = static_cast<float>(positions[t]) * frequency[i];
        out[t * 2 * half + i] = std::cos(angle);
        out[t * 2 * half + half + i] = std::sin(angle);
      }
  });
}

void rope(const RopeArgs& args) {
  const int64_t head_dim = args.table.dim(1);
  const int64_t half = head_dim / 2;
  const int64_t row_width = args.x.dim(1);
  const int64_t num_heads = args.num_heads;
  const float sign = args.inverse ? -1.0f : 1.0f;
  const float* table = args.table.data<float>();
  with_float_type(args.x.dtype(), [&](auto x_type) {
    auto* x = args.x.data<decltype(x_type)>();
    parallel_vectorised(args.x.dim(0), num_heads * head_dim, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const float* cos = table + t * head_dim;
        for (int64_t head = 0; head < num_heads; ++head) {
          auto* a = x + t * row_width + head * head_dim;
          rotate_head(a, a + half, cos, cos + half, sign, half);
        }
      }
    });
  });
}

}  // namespace weft::ops::cpu
