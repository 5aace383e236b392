// Rows in chunks of 16 bytes. A thread takes whole chunks, counted from the start of the row, so
// what it sums depends on the shape only; where rows are aligned a chunk is one load, elsewhere it
// is read by elements.
#pragma once

#include <type_traits>

#include "kernels/cuda/cuda.cuh"

namespace weft::ops::cuda {

template <class T>
constexpr int kChunk = 16 / static_cast<int>(sizeof(T));  // elements

template <class T>
struct alignas(16) Chunk {
  T at[kChunk<T>];
};

__host__ __device__ inline bool is_aligned(const void* p) {
  return reinterpret_cast<uintptr_t>(p) % 16 == 0;
}

// Calls f(std::true_type()) or f(std::false_type()): a kernel's template argument.
template <class F>
void with_alignment(bool aligned, F&& f) {
  if (aligned)
    f(std::true_type());
  else
    f(std::false_type());
}

// The `left` elements from `from` on, at most a chunk; 0 behind them. kAligned: `from` is aligned
// to 16 bytes and the chunk is whole.
template <bool kAligned, class T>
__device__ Chunk<T> load_chunk(const T* from, int64_t left) {
  Chunk<T> chunk;
  if constexpr (kAligned) {
    *reinterpret_cast<uint4*>(&chunk) = *reinterpret_cast<const uint4*>(from);
  } else {
#pragma unroll
    for (int j = 0; j < kChunk<T>; ++j) chunk.at[j] = j < left ? from[j] : from_float<T>(0.0f);
  }
  return chunk;
}

template <bool kAligned, class T>
__device__ void store_chunk(T* to, const Chunk<T>& chunk, int64_t left) {
  if constexpr (kAligned) {
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(&chunk);
  } else {
#pragma unroll
    for (int j = 0; j < kChunk<T>; ++j)
      if (j < left) to[j] = chunk.at[j];
  }
}

// As above for kCount elements, a multiple of T's chunk, as floats.
template <bool kAligned, int kCount, class T>
__device__ void load_floats(float (&to)[kCount], const T* from, int64_t left) {
  static_assert(kCount % kChunk<T> == 0);
#pragma unroll
  for (int i = 0; i < kCount; i += kChunk<T>) {
    const Chunk<T> chunk = load_chunk<kAligned>(from + i, left - i);
#pragma unroll
    for (int j = 0; j < kChunk<T>; ++j) to[i + j] = to_float(chunk.at[j]);
  }
}

template <bool kAligned, int kCount, class T>
__device__ void store_floats(T* to, const float (&from)[kCount], int64_t left) {
  static_assert(kCount % kChunk<T> == 0);
#pragma unroll
  for (int i = 0; i < kCount; i += kChunk<T>) {
    Chunk<T> chunk;
#pragma unroll
    for (int j = 0; j < kChunk<T>; ++j) chunk.at[j] = from_float<T>(from[i + j]);
    store_chunk<kAligned>(to + i, chunk, left - i);
  }
}

// A grid over rows (y) and the items of a row (x): kThreads threads a block, several rows in it
// where rows are short. Kernels stride by the grid in both directions.
struct RowGrid {
  dim3 grid, block;
};
inline RowGrid over_rows(int64_t rows, int64_t items) {
  unsigned across = 1;
  while (across < kThreads && across < items) across *= 2;
  const unsigned down = kThreads / across;
  return {dim3(blocks_for(items, across), blocks_for(rows, down)), dim3(across, down)};
}
__device__ inline int64_t first_row() {
  return int64_t{blockIdx.y} * blockDim.y + threadIdx.y;
}
__device__ inline int64_t row_stride() {
  return int64_t{gridDim.y} * blockDim.y;
}
__device__ inline int64_t first_item() {
  return int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
}
__device__ inline int64_t item_stride() {
  return int64_t{gridDim.x} * blockDim.x;
}

}  // namespace weft::ops::cuda
