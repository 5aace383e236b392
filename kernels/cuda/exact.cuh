// A float whose sums, products, quotients and roots are each rounded, never contracted to an FMA:
// a formula of these gives the CPU's bits.
#pragma once

#include "kernels/cuda/cuda.cuh"

namespace weft::ops::cuda {

struct Exact {
  float value;
  __device__ Exact(float v) : value(v) {}
};
__device__ inline Exact operator+(Exact a, Exact b) {
  return __fadd_rn(a.value, b.value);
}
__device__ inline Exact operator-(Exact a, Exact b) {
  return __fsub_rn(a.value, b.value);
}
__device__ inline Exact operator*(Exact a, Exact b) {
  return __fmul_rn(a.value, b.value);
}
__device__ inline Exact operator/(Exact a, Exact b) {
  return __fdiv_rn(a.value, b.value);
}
__device__ inline Exact sqrt(Exact a) {
  return __fsqrt_rn(a.value);
}

}  // namespace weft::ops::cuda
