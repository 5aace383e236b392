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
__device__ float add_squares(const Chunk<T>& chunk, float sum) {
  float x[kChunk<T>];
  to_floats<T>(x, chunk);
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j) sum = __fmaf_rn(x[j], x[j], sum);
  return sum;
}

// Rounded to T.
template <class T>
__device__ Chunk<T> add(const Chunk<T>& x, const Chunk<T>& y) {
  float sum[kChunk<T>], more[kChunk<T>];
  to_floats<T>(sum, x);
  to_floats<T>(more, y);
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j) sum[j] += more[j];
  return to_chunk<T>(sum);
}

// y = x * rstd * weight, to be rounded: the one place that makes y, so that a rebuild has the same
// bits.
template <bool kAligned, class T, class W>
__device__ void normalise(float (&y)[kChunk<T>], const Chunk<T>& chunk, float rstd, const W* weight,
                          int left) {
  float x[kChunk<T>];
  to_floats<T>(x, chunk);
  load_floats<kAligned>(y, weight, left);
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j) y[j] = __fmul_rn(__fmul_rn(x[j], rstd), y[j]);
}

// Adds sum(dy * weight * x) of a chunk: how much of the gradient points along x. The sums of a dx
// spell their roundings: a frozen weight changes no bit of it.
template <bool kAligned, class T, class W>
__device__ float add_along_x(const Chunk<T>& dy_chunk, const Chunk<T>& x_chunk, const W* weight,
                             int left, float sum) {
  float dy[kChunk<T>], x[kChunk<T>], w[kChunk<T>];
  to_floats<T>(dy, dy_chunk);
  to_floats<T>(x, x_chunk);
  load_floats<kAligned>(w, weight, left);
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j) sum = __fmaf_rn(__fmul_rn(dy[j], w[j]), x[j], sum);
  return sum;
}

struct RowScale {
  float rstd;
  float along;  // mean(dy * weight * xhat)
};

// dx of the chunk at `to`; `more` is added.
template <bool kAligned, class T, class W>
__device__ void store_dx(const Chunk<T>& dy_chunk, const Chunk<T>& x_chunk, const Chunk<T>& more,
                         const W* weight, RowScale scale, T* to, int left) {
  float dy[kChunk<T>], x[kChunk<T>], dx[kChunk<T>], w[kChunk<T>];
  to_floats<T>(dy, dy_chunk);
  to_floats<T>(x, x_chunk);
  to_floats<T>(dx, more);
  load_floats<kAligned>(w, weight, left);
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j) {
    const float xhat = __fmul_rn(x[j], scale.rstd);
    const float across = __fmaf_rn(-xhat, scale.along, __fmul_rn(dy[j], w[j]));
    dx[j] = __fmaf_rn(scale.rstd, across, dx[j]);
  }
  store_floats<kAligned>(to, dx, left);
}

template <class T>
__device__ void add_dweight(const Chunk<T>& dy_chunk, const Chunk<T>& x_chunk, float rstd,
                            float (&sum)[kChunk<T>]) {
  float dy[kChunk<T>], x[kChunk<T>];
  to_floats<T>(dy, dy_chunk);
  to_floats<T>(x, x_chunk);
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j) sum[j] = __fmaf_rn(dy[j], __fmul_rn(x[j], rstd), sum[j]);
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
