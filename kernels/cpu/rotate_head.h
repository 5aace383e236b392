// Rotary embedding of one head. For light kernels (vectorised.h), inside of its loops.
#pragma once

#include "kernels/cpu/vectorised.h"

namespace weft::ops::cpu {

// (a, b) turns by the angle: (a cos - b sin, b cos + a sin). `sign` is -1 for the inverse.
template <class T>
inline void rotate_head(T* a, T* b, const float* cos, const float* sin, float sign, int64_t half) {
  each(half, [=](int64_t i) {
    const float x = static_cast<float>(a[i]);
    const float y = static_cast<float>(b[i]);
    const float s = sign * sin[i];
    a[i] = static_cast<T>(x * cos[i] - y * s);
    b[i] = static_cast<T>(y * cos[i] + x * s);
  });
}

}  // namespace weft::ops::cpu
