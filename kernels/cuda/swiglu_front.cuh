// SwiGLU in the order of the tensor cores, which add the part of the adapters in front to gate and
// up on the way: what its forward and its backward share.
#pragma once

#include "kernels/cuda/adapter_tiles.cuh"
#include "kernels/cuda/chunks.cuh"

namespace weft::ops::cuda::gated {

// The adapter of gate or up.
struct Front {
  const void* h;       // [tokens, ranks]
  const void* b;       // [width, ranks]
  float* dh_partials;  // [slabs, tokens, ranks]; of the backward, as the next
  float* db_partials;  // [token slabs, width, ranks]
  int ranks;           // a multiple of 8; 0: there is none
};

// A lane's part of 16 x 16 elements, in 16 bits and in f32: word i has the columns 2 (l % 4) and
// the next of row l / 4 + i % 2 * 8, those from 8 (i / 2) on; they are [i / 2][i % 2 * 2] and the
// next of a Block.
using Words = unsigned[4];
using Block = float[2][4];

template <class T>
__device__ void unpack_block(Block& block, const Words& words) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = mma::unpack<T>(words[i]);
    block[i / 2][i % 2 * 2] = pair.x;
    block[i / 2][i % 2 * 2 + 1] = pair.y;
  }
}
template <class T>
__device__ void pack_block(Words& words, const Block& block) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
    words[i] = mma::pack<T>(block[i / 2][i % 2 * 2], block[i / 2][i % 2 * 2 + 1]);
}

// A warp's part of a tile: sixteen rows, and of the columns one of as many parts as there are warps
// for the same rows.
template <class Tiles, int kRowGroups>
struct WarpPart {
  static constexpr int kParts = Tiles::kWarps / kRowGroups;
  static constexpr int kBlocks = Tiles::kColumns / 16 / kParts;

  int row = threadIdx.x / kWarp % kRowGroups * adapter::kWarpRows;
  int index = threadIdx.x / kWarp / kRowGroups;

  __device__ int column(int block) const { return (index * kBlocks + block) * 16; }

  template <class T>
  __device__ T* place(T* tile, int block) const {
    const int lane = threadIdx.x % kWarp;
    return tile + adapter::place<Tiles::kChunks>(row + lane % 16, column(block) / 8 + lane / 16);
  }
  // Blocks `first` and on.
  template <int kCount, class T>
  __device__ void load(Words (&to)[kCount], T* tile, int first) const {
#pragma unroll
    for (int k = 0; k < kCount; ++k) mma::load_matrices(to[k], place(tile, first + k));
  }
  // Behind a load of the same block.
  template <class T>
  __device__ void store(T* tile, int block, const Words& words) const {
    mma::store_matrices(place(tile, block), words);
  }
  // What the warp has stored of a tile (a __syncwarp() lies between), within `rows` and `columns`,
  // to the matrix whose element there is the tile's first.
  template <class T>
  __device__ void write(T* to, int64_t stride, const T* tile, int rows, int columns) const {
    constexpr int kChunks = 2 * kBlocks, kStep = kWarp / kChunks;
    constexpr int kCount = adapter::kWarpRows / kStep;
    const int lane = threadIdx.x % kWarp;
    const int first = row + lane / kChunks, chunk = column(0) / 8 + lane % kChunks;
    uint4 values[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      values[i] = *reinterpret_cast<const uint4*>(
          tile + adapter::place<Tiles::kChunks>(first + i * kStep, chunk));
    if (chunk * 8 >= columns) return;
    to += first * stride + chunk * 8;
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      if (first + i * kStep < rows) store_16_bytes(to + i * kStep * stride, values[i]);
  }
};

// Sixteen tokens of a Front's h, as the rows of a product.
template <int kRanks>
struct FrontRows {
  unsigned h[kRanks / 16][4];

  // Zeros behind `tokens` and `ranks`.
  template <class T>
  __device__ void load(const T* from, int64_t stride, int tokens, int ranks) {
    const int lane = threadIdx.x % kWarp;
#pragma unroll
    for (int i = 0; i < kRanks / 4; ++i) {
      const int token = lane / 4 + i % 2 * 8, rank = i / 2 * 8 + lane % 4 * 2;
      h[i / 4][i % 4] = token < tokens && rank < ranks
                            ? *reinterpret_cast<const unsigned*>(from + token * stride + rank)
                            : 0;
    }
  }
  // From shared memory, [rows, kRanks].
  template <class T>
  __device__ void load(const T* hidden, int first_row) {
    const int lane = threadIdx.x % kWarp;
#pragma unroll
    for (int i = 0; i < kRanks / 16; ++i)
      mma::load_matrices(
          h[i], hidden + adapter::place<kRanks / 8>(first_row + lane % 16, 2 * i + lane / 16));
  }
  // Of a tile of B [columns, kRanks] sixteen columns each, `column` and on.
  template <int kCount, class T>
  __device__ static void load_b(Words (&to)[kCount][kRanks / 16], const T* b, int column) {
    const int lane = threadIdx.x % kWarp;
#pragma unroll
    for (int k = 0; k < kCount; ++k)
#pragma unroll
      for (int i = 0; i < kRanks / 16; ++i)
        mma::load_matrices(
            to[k][i], b + adapter::place<kRanks / 8>(column + 16 * k + lane / 16 * 8 + lane % 8,
                                                     2 * i + lane / 8 % 2));
  }
  // block += h b^T for the sixteen columns of b.
  template <class T>
  __device__ void add_to(Block& block, const Words (&b)[kRanks / 16], T type) const {
#pragma unroll
    for (int i = 0; i < kRanks / 16; ++i) {
      mma::product(block[0], h[i], b[i][0], b[i][1], type);
      mma::product(block[1], h[i], b[i][2], b[i][3], type);
    }
  }
};

}  // namespace weft::ops::cuda::gated
