#include "core/ops/dropout.h"

#include <cmath>

#include "kernels/cpu/philox_block.h"
#include "kernels/cpu/vectorised.h"

namespace weft::ops::cpu {
namespace {

struct Mask {
  PhiloxKey key;
  uint32_t threshold;  // dropped when draw >> 8 is less
  float scale;         // of what stays
};

template <class T>
inline void drop(const T* x, const uint32_t* draws, Mask mask, T* y, int64_t n) {
  each(n, [=](int64_t i) {
    const float kept = static_cast<float>(x[i]) * mask.scale;
    y[i] = static_cast<T>((draws[i] >> 8) < mask.threshold ? 0.0f : kept);
  });
}

template <class T>
inline void drop_accumulate(const T* x, const uint32_t* draws, Mask mask, T* y, int64_t n) {
  each(n, [=](int64_t i) {
    const float kept = static_cast<float>(x[i]) * mask.scale;
    y[i] =
        static_cast<T>(static_cast<float>(y[i]) + ((draws[i] >> 8) < mask.threshold ? 0.0f : kept));
  });
}

struct Token {
  int64_t sample = 0;
  int32_t position = 0;
};

template <class T>
void drop_row(const T* x, T* y, int64_t width, Token token, Mask mask, bool accumulate) {
  const auto sample = static_cast<uint64_t>(token.sample);
  PhiloxCounter counter = {0, static_cast<uint32_t>(token.position), static_cast<uint32_t>(sample),
                           static_cast<uint32_t>(sample >> 32)};
  uint32_t draws[kPhiloxDraws];
  for (int64_t begin = 0; begin < width; begin += kPhiloxDraws) {
    counter[0] = static_cast<uint32_t>(begin / 4);
    philox_block(counter, mask.key, draws);
    const int64_t n = std::min<int64_t>(kPhiloxDraws, width - begin);
    if (accumulate)
      drop_accumulate(x + begin, draws, mask, y + begin, n);
    else
      drop(x + begin, draws, mask, y + begin, n);
  }
}

}  // namespace

void dropout(const DropoutArgs& args, const Tensor& y_TD, bool accumulate) {
  const int64_t width = args.x_TD.dim(1);
  const int64_t* samples = args.sample_ids_T.data<int64_t>();
  const int32_t* positions = args.positions_T.data<int32_t>();
  const Mask mask{philox_key(mix(mix(args.seed, args.step), args.site)),
                  static_cast<uint32_t>(std::ceil(args.p * 0x1p24f)), 1.0f / (1.0f - args.p)};
  with_float_type(args.x_TD.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* x = args.x_TD.data<T>();
    T* y = y_TD.data<T>();
    parallel_vectorised(args.x_TD.dim(0), 4 * width, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t)
        drop_row(x + t * width, y + t * width, width, Token{samples[t], positions[t]}, mask,
                 accumulate);
    });
  });
}

}  // namespace weft::ops::cpu
