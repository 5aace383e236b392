// SwiGLU of single elements, in f32.
#pragma once

#include "kernels/cuda/fast_math.cuh"

namespace weft::ops::cuda {

// 0 where it would be less than 2^-126. For elements of T: within 4 ulp of f32, or, where T has 16
// bits, to 2^-16 of itself.
template <class T>
__device__ float sigmoid(float x) {
  if constexpr (sizeof(T) == 4)
    return __fdividef(1.0f, 1.0f + expf(-x));
  else
    return reciprocal_fast(1.0f + exp2_fast(-kLog2e * x));
}

struct SwigluGradient {
  float gate, up;
};
// silu'(g) = s (1 + g (1 - s)) with s the sigmoid of g.
__device__ inline SwigluGradient swiglu_gradient(float gate, float up, float s, float dy) {
  return {dy * up * (s * (1.0f + gate * (1.0f - s))), dy * (gate * s)};
}

}  // namespace weft::ops::cuda
