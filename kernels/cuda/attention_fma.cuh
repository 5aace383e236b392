// Products of 64 x 64 tiles by a block of 16 x 16 threads in plain f32 multiply-adds. Thread
// (y, x) = (threadIdx.x / 16, threadIdx.x % 16) holds rows 4 y + i and columns 4 x + j of a tile of
// scores, and of a tile of kColumns outputs columns 64 c + 4 x + j (element 4 c + j).
#pragma once

#include "kernels/cuda/attention.cuh"

namespace weft::ops::cuda::fma {

constexpr int kTile = 64;      // rows of either side
constexpr int kSlice = 32;     // terms of a sum that are in shared memory at a time
constexpr int kColumns = 128;  // of head_dim that a unit of work computes
constexpr int kMine = 4;       // rows of a thread

struct Shared {
  union {
    struct {
      float a[kSlice][kTile + 4];  // transposed
      float b[kSlice][kTile + 4];
    };
    float values[kSlice][kColumns];
  };
  float weights[kTile][kTile + 4];  // [term][row]
};

// Rows of one head, `count` of them real.
template <class T>
struct Rows {
  const T* data;
  int64_t stride;
  int count;
};
template <class T>
__device__ Rows<T> rows_of(const HeadsView& view, int64_t first, int64_t count, int head,
                           const AttentionParams& p) {
  return {head_row<const T>(view, first, head, p), view.row_stride,
          static_cast<int>(count < kTile ? count : kTile)};
}

// What a thread block computes: columns [column, column + kColumns) of a head of a block.
struct Unit {
  AttentionBlock block;
  int head;
  int column;
};
__device__ inline Unit unit_of(const AttentionParams& p, int heads) {
  const int parts = (p.head_dim + kColumns - 1) / kColumns;
  const unsigned unit = blockIdx.x / parts;
  return {p.blocks[unit / heads], static_cast<int>(unit % heads),
          static_cast<int>(blockIdx.x % parts) * kColumns};
}
__device__ inline int thread_y() {
  return threadIdx.x / 16;
}
__device__ inline int thread_x() {
  return threadIdx.x % 16;
}

// to[d - first][row] = rows[row][d]; zero outside. 8 x 4 elements a warp: no bank conflict.
template <class T>
__device__ void load_transposed(const Rows<T>& rows, int first, int head_dim,
                                float (*to)[kTile + 4]) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  for (int part = warp; part < kTile / 4 * (kSlice / 8); part += kThreads / kWarp) {
    const int row = part / (kSlice / 8) * 4 + lane / 8, d = part % (kSlice / 8) * 8 + lane % 8;
    const bool real = row < rows.count && first + d < head_dim;
    to[d][row] = real ? to_float(rows.data[row * rows.stride + first + d]) : 0.0f;
  }
}

// scores = a times b^T over the whole head_dim. Uses a and b of Shared.
template <class T>
__device__ void scores_product(Shared& s, const Rows<T>& a, const Rows<T>& b, int head_dim,
                               float (&scores)[kMine][4]) {
  for (auto& row : scores)
    for (float& x : row) x = 0;
  for (int first = 0; first < head_dim; first += kSlice) {
    __syncthreads();
    load_transposed(a, first, head_dim, s.a);
    load_transposed(b, first, head_dim, s.b);
    __syncthreads();
#pragma unroll 8
    for (int d = 0; d < kSlice; ++d) {
      const float4 left = *reinterpret_cast<const float4*>(&s.a[d][thread_y() * kMine]);
      const float4 right = *reinterpret_cast<const float4*>(&s.b[d][thread_x() * 4]);
      const float l[4] = {left.x, left.y, left.z, left.w};
      const float r[4] = {right.x, right.y, right.z, right.w};
      for (int i = 0; i < kMine; ++i)
        for (int j = 0; j < 4; ++j) scores[i][j] += l[i] * r[j];
    }
  }
}

// Scores become the weights of values_product. All threads must have left the last one.
__device__ inline void store_weights(Shared& s, const float (&scores)[kMine][4]) {
  for (int j = 0; j < 4; ++j)
    *reinterpret_cast<float4*>(&s.weights[thread_x() * 4 + j][thread_y() * kMine]) =
        make_float4(scores[0][j], scores[1][j], scores[2][j], scores[3][j]);
}

// sums += weights^T times columns [column, column + kColumns) of values. Uses values of Shared.
template <class T>
__device__ void values_product(Shared& s, const Rows<T>& values, int column, int head_dim,
                               float (&sums)[kMine][8]) {
  for (int first = 0; first < kTile; first += kSlice) {
    __syncthreads();
    for (int at = threadIdx.x; at < kSlice * kColumns; at += kThreads) {
      const int row = first + at / kColumns, d = column + at % kColumns;
      const bool real = row < values.count && d < head_dim;
      s.values[at / kColumns][at % kColumns] =
          real ? to_float(values.data[row * values.stride + d]) : 0.0f;
    }
    __syncthreads();
#pragma unroll 4
    for (int term = 0; term < kSlice; ++term) {
      const float4 left =
          *reinterpret_cast<const float4*>(&s.weights[first + term][thread_y() * kMine]);
      const float l[4] = {left.x, left.y, left.z, left.w};
      for (int c = 0; c < 2; ++c) {
        const float4 right =
            *reinterpret_cast<const float4*>(&s.values[term][c * 64 + thread_x() * 4]);
        const float r[4] = {right.x, right.y, right.z, right.w};
        for (int i = 0; i < kMine; ++i)
          for (int j = 0; j < 4; ++j) sums[i][c * 4 + j] += l[i] * r[j];
      }
    }
  }
}

// The thread's part of row i of its sums, times `scale`.
template <class T>
__device__ void store_row(const float (&sums)[8], float scale, int column, int head_dim, T* row) {
  for (int e = 0; e < 8; ++e) {
    const int d = column + e / 4 * 64 + thread_x() * 4 + e % 4;
    if (d < head_dim) row[d] = from_float<T>(sums[e] * scale);
  }
}

inline int64_t parts_of(const AttentionParams& p) {
  return divide_up(p.head_dim, kColumns);
}

}  // namespace weft::ops::cuda::fma
