// Functions of f32 by the hardware's approximations.
#pragma once

namespace weft::ops::cuda {

constexpr float kLog2e = 1.44269504f;

// 2^x within 2 ulp; 0 where it would be less than 2^-126.
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// 1 / x within 1 ulp; 0 where it would be less than 2^-126.
__device__ inline float reciprocal_fast(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace weft::ops::cuda
