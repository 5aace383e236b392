#include "core/ops/dropout.h"

#include <cmath>

#include "kernels/cuda/chunks.cuh"
#include "kernels/cuda/exact.cuh"
#include "kernels/cuda/philox.cuh"

namespace weft::ops::cuda {
namespace {

struct Mask {
  Key key;
  uint32_t threshold;  // dropped when draw >> 8 is less
  float scale;         // of what stays
  __device__ float operator()(float x, uint32_t draw) const {
    return (draw >> 8) < threshold ? 0.0f : (Exact(x) * scale).value;
  }
};

struct Tokens {
  const int64_t* samples;
  const int32_t* positions;
};

// y[k] = or += the masked x[k], for the first `count` of four.
template <bool kAccumulate, class T>
__device__ inline void drop_four(const T* x, T* y, const uint32_t* draws, Mask mask, int count) {
  const auto masked = [&](T from, T before, int k) {
    const float kept = mask(to_float(from), draws[k]);
    return from_float<T>(kAccumulate ? (Exact(to_float(before)) + kept).value : kept);
  };
  if (count == 4 && is_aligned<4>(x) && is_aligned<4>(y)) {
    const Pack<T, 4> from = load_pack<4>(x);
    Pack<T, 4> to = from;
    if constexpr (kAccumulate) to = load_pack<4>(y);
#pragma unroll
    for (int k = 0; k < 4; ++k) to.at[k] = masked(from.at[k], to.at[k], k);
    return store_pack(y, to);
  }
#pragma unroll
  for (int k = 0; k < 4; ++k)
    if (k < count) y[k] = masked(x[k], kAccumulate ? y[k] : x[k], k);
}

// A thread has the four features of one Philox call.
template <bool kAccumulate, class T>
__global__ void dropout_kernel(const T* x, T* y, Tokens tokens, int64_t rows, int64_t width,
                               Mask mask) {
  const int64_t fours = (width + 3) / 4;
  for (int64_t t = first_row(); t < rows; t += row_stride()) {
    const uint64_t sample = static_cast<uint64_t>(tokens.samples[t]);
    const uint32_t position = static_cast<uint32_t>(tokens.positions[t]);
    for (int64_t f = first_item(); f < fours; f += item_stride()) {
      const uint4 r =
          philox(make_uint4(static_cast<uint32_t>(f), position, static_cast<uint32_t>(sample),
                            static_cast<uint32_t>(sample >> 32)),
                 mask.key);
      const uint32_t draws[4] = {r.x, r.y, r.z, r.w};
      const int64_t at = t * width + f * 4;
      const int count = static_cast<int>(min(int64_t{4}, width - f * 4));
      drop_four<kAccumulate>(x + at, y + at, draws, mask, count);
    }
  }
}

}  // namespace

void dropout(const DropoutArgs& args, const Tensor& y_TD, bool accumulate) {
  if (y_TD.numel() == 0) return;
  const int64_t rows = y_TD.dim(0), width = y_TD.dim(1);
  const Tokens tokens{pointer<const int64_t>(args.sample_ids_T),
                      pointer<const int32_t>(args.positions_T)};
  const Mask mask{key_of(mix(mix(args.seed, args.step), args.site)),
                  static_cast<uint32_t>(std::ceil(args.p * 0x1p24f)), 1.0f / (1.0f - args.p)};
  const RowGrid over = over_rows(rows, divide_up(width, 4));
  const cudaStream_t stream = stream_on(y_TD.device());
  dispatch(y_TD.dtype(), [&](auto type) {
    using T = decltype(type);
    auto kernel = accumulate ? dropout_kernel<true, T> : dropout_kernel<false, T>;
    kernel<<<over.grid, over.block, 0, stream>>>(pointer<const T>(args.x_TD), pointer<T>(y_TD),
                                                 tokens, rows, width, mask);
  });
  check(cudaGetLastError(), "dropout");
}

}  // namespace weft::ops::cuda
