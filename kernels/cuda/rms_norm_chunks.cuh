// RMSNorm of a chunk of a row, forward and backward, and sums over the lanes that share a row.
#pragma once

#include "kernels/cuda/chunks.cuh"

namespace weft::ops::cuda {

// Sum over `lanes` neighbours of a warp (a power of 2; more than the warp's: over the warp), the
// same order always; every one of them has it. The block is one-dimensional.
__device__ inline float lanes_sum(float value, int lanes) {
  const int lane = threadIdx.x % kWarp;
  const unsigned all = lanes >= kWarp ? 0xffffffffu : (1u << lanes) - 1u;
  const unsigned team = lanes >= kWarp ? all : all << (lane & -lanes);
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    if (offset < lanes) value += __shfl_xor_sync(team, value, offset);
  return value;
}

// The compiler forgets what it read of memory and converted of the chunks: they stay as they were
// loaded, in half the registers of floats, and are converted again.
template <int kKept, class T>
__device__ void keep_packed(Chunk<T> (&kept)[kKept]) {
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    uint4& packed = *reinterpret_cast<uint4*>(&kept[k]);
    asm volatile("" : "+r"(packed.x), "+r"(packed.y), "+r"(packed.z), "+r"(packed.w) : : "memory");
  }
}

template <class T>
__device__ float add_squares(const Chunk<T>& x, float sum) {
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j) sum = __fmaf_rn(to_float(x.at[j]), to_float(x.at[j]), sum);
  return sum;
}

// Rounded to T.
template <class T>
__device__ Chunk<T> add(const Chunk<T>& x, const Chunk<T>& y) {
  Chunk<T> sum;
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j)
    sum.at[j] = from_float<T>(to_float(x.at[j]) + to_float(y.at[j]));
  return sum;
}

// y = x * rstd * weight, to be rounded: the one place that makes y, so that a rebuild has the same
// bits.
template <bool kAligned, class T, class W>
__device__ void normalise(float (&y)[kChunk<T>], const Chunk<T>& x, float rstd, const W* weight,
                          int left) {
  load_floats<kAligned>(y, weight, left);
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j) y[j] = __fmul_rn(__fmul_rn(to_float(x.at[j]), rstd), y[j]);
}

// Adds sum(dy * weight * x) of a chunk: how much of the gradient points along x. The sums of a dx
// spell their roundings: a frozen weight changes no bit of it.
template <bool kAligned, class T, class W>
__device__ float add_along_x(const Chunk<T>& dy, const Chunk<T>& x, const W* weight, int left,
                             float sum) {
  float w[kChunk<T>];
  load_floats<kAligned>(w, weight, left);
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j)
    sum = __fmaf_rn(__fmul_rn(to_float(dy.at[j]), w[j]), to_float(x.at[j]), sum);
  return sum;
}

struct RowScale {
  float rstd;
  float along;  // mean(dy * weight * xhat)
};

// dx of the chunk at `to`; `more` is added.
template <bool kAligned, class T, class W>
__device__ void store_dx(const Chunk<T>& dy, const Chunk<T>& x, const Chunk<T>& more,
                         const W* weight, RowScale scale, T* to, int left) {
  float w[kChunk<T>];
  load_floats<kAligned>(w, weight, left);
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j) {
    const float xhat = __fmul_rn(to_float(x.at[j]), scale.rstd);
    const float across = __fmaf_rn(-xhat, scale.along, __fmul_rn(to_float(dy.at[j]), w[j]));
    w[j] = __fmaf_rn(scale.rstd, across, to_float(more.at[j]));
  }
  store_floats<kAligned>(to, w, left);
}

template <class T>
__device__ void add_dweight(const Chunk<T>& dy, const Chunk<T>& x, float rstd,
                            float (&sum)[kChunk<T>]) {
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j)
    sum[j] = __fmaf_rn(to_float(dy.at[j]), __fmul_rn(to_float(x.at[j]), rstd), sum[j]);
}

// Calls f(x's type, weight's type).
template <class F>
void dispatch_types(const Tensor& x, const Tensor& weight, F&& f) {
  dispatch(x.dtype(), [&](auto type) {
    if (weight.dtype() == DType::f32)
      f(type, float());
    else
      f(type, type);
  });
}

}  // namespace weft::ops::cuda
