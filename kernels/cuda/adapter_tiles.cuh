// Tiles of a wide matrix in shared memory, which the thin products of low-rank adapters take twice:
// rows of a tile times a matrix [columns, ranks], and columns of it times one of [tokens, ranks].
#pragma once

#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/tensor_core.cuh"

namespace weft::ops::cuda::adapter {

constexpr int kWarpRows = 16;  // of a product, and columns

// Element where chunk `chunk` (8 elements) of a row lies that has kChunks of them, a power of two:
// rows lie so that the same chunk of 8 rows in a row, which a load of matrices reads at once, is in
// 8 banks' places.
template <int kChunks>
__device__ int place(int row, int chunk) {
  constexpr int kRowsOfLine = kChunks >= 8 ? 1 : 8 / kChunks;
  constexpr int kMixed = kChunks >= 8 ? 8 : kChunks;
  return (row * kChunks + (chunk ^ (row / kRowsOfLine % kMixed))) * 8;
}

// Tiles of so many columns, which a block of so many threads copies: a thread has a chunk of every
// kStep-th row.
template <int columns_, int threads_>
struct Tiling {
  static constexpr int kColumns = columns_, kBlockThreads = threads_;
  static constexpr int kWarps = kBlockThreads / kWarp;
  static constexpr int kChunks = kColumns / 8, kStep = kBlockThreads / kChunks;
  static_assert(kStep % 8 == 0);  // place_of(step) is step * kStep rows further

  int row = threadIdx.x / kChunks;
  int column = threadIdx.x % kChunks * 8;

  __device__ int place_of(int step) const {
    return place<kChunks>(row, column / 8) + step * kStep * kColumns;
  }
};

// The thread's part of kRows rows to `to`; zeros behind `rows` and `columns`, where nothing is
// read, whatever the address. `from` is the thread's first chunk.
template <class Tiling, int kRows, class T>
__device__ void load_tile(T* to, const T* from, int64_t stride, int rows, int columns) {
  const Tiling part;
  if (kRows < Tiling::kStep && part.row >= kRows) return;
  rows = part.column < columns ? rows - part.row : 0;
#pragma unroll
  for (int i = 0; i * Tiling::kStep < kRows; ++i, from += Tiling::kStep * stride)
    mma::copy_16_bytes(to + part.place_of(i), from, i * Tiling::kStep < rows);
}

// kRows x kRanks elements of `rows` x `ranks`; zeros elsewhere.
template <class Tiling, int kRows, int kRanks, class T>
__device__ void load_ranks(T* to, const T* first, int64_t stride, int rows, int ranks) {
  constexpr int kChunks = kRanks / 8;
#pragma unroll
  for (int i = 0; i < kRows * kChunks; i += Tiling::kBlockThreads) {
    const int at = i + static_cast<int>(threadIdx.x), row = at / kChunks, chunk = at % kChunks;
    const bool real = row < rows && chunk * 8 < ranks;
    if (kRows * kChunks % Tiling::kBlockThreads == 0 || row < kRows)
      mma::copy_16_bytes(to + place<kChunks>(row, chunk),
                         real ? first + row * stride + chunk * 8 : first, real);
  }
}

// Sixteen rows (the depth of a product) and sixteen ranks, 16 i and on, of a matrix of ranks.
template <int kRanks, class T>
__device__ void load_operand(unsigned (&to)[4], const T* matrix, int first_row, int i) {
  const int lane = threadIdx.x % kWarp;
  mma::load_matrices_transposed(
      to, matrix + place<kRanks / 8>(first_row + lane % 16, 2 * i + lane / 16));
}

// Sixteen columns, 8 first_chunk and on, of sixteen rows of a tile as the rows of a product.
template <class Tiling, class T>
__device__ void load_columns(unsigned (&to)[4], const T* tile, int first_row, int first_chunk) {
  const int lane = threadIdx.x % kWarp;
  mma::load_matrices_transposed(to,
                                tile + place<Tiling::kChunks>(first_row + lane / 16 * 8 + lane % 8,
                                                              first_chunk + lane / 8 % 2));
}

// sums[16, ranks 16 i and on] += a[16, 16] b[16, 16].
template <int kRanks, class T>
__device__ void add_product(float (&sums)[kRanks / 8][4], const unsigned (&a)[4],
                            const unsigned (&b)[4], int i, T type) {
  mma::product(sums[2 * i], a, b[0], b[1], type);
  mma::product(sums[2 * i + 1], a, b[2], b[3], type);
}

// Sixteen rows of a tile times a matrix [columns, ranks], which for few ranks stays in registers
// for all tiles of its columns.
template <class Tiling, int kRanks, class T>
struct TimesColumns {
  static constexpr bool kKeeps = kRanks == 16;
  static constexpr int kDepth = Tiling::kColumns / 16;
  unsigned kept[kKeeps ? kDepth : 1][4];

  __device__ void start(const T* b) {
    if constexpr (kKeeps) {
#pragma unroll
      for (int k = 0; k < kDepth; ++k) load_operand<kRanks>(kept[k], b, 16 * k, 0);
    }
  }
  // sums +=; the warp's rows are first_row and on.
  __device__ void add_to(float (&sums)[kRanks / 8][4], const T* tile, int first_row, const T* b) {
    const int lane = threadIdx.x % kWarp, row = first_row + lane % 16;
#pragma unroll(kKeeps ? kDepth : 2)
    for (int k = 0; k < kDepth; ++k) {
      unsigned a[4];
      mma::load_matrices(a, tile + place<Tiling::kChunks>(row, 2 * k + lane / 16));
#pragma unroll
      for (int i = 0; i < kRanks / 16; ++i) {
        if constexpr (!kKeeps) load_operand<kRanks>(kept[0], b, 16 * k, i);
        add_product<kRanks>(sums, a, kept[kKeeps ? k : 0], i, T());
      }
    }
  }
};

// Sixteen columns, 8 first_chunk and on, of a tile of kRows tokens times a matrix [kRows, ranks]:
// sums +=.
template <class Tiling, int kRows, int kRanks, class T>
__device__ void add_times_tokens(float (&sums)[kRanks / 8][4], const T* tile, int first_chunk,
                                 const T* h) {
#pragma unroll(kRanks == 16 ? kRows / 16 : 2)
  for (int k = 0; k < kRows / 16; ++k) {
    unsigned a[4], b[4];
    load_columns<Tiling>(a, tile, 16 * k, first_chunk);
#pragma unroll
    for (int i = 0; i < kRanks / 16; ++i) {
      load_operand<kRanks>(b, h, 16 * k, i);
      add_product<kRanks>(sums, a, b, i, T());
    }
  }
}

// A part of a partial sum, [rows, ranks] from `to` on.
struct PartialRows {
  float* to;
  int64_t rows;
  int ranks;
};

// The warp's sixteen rows, first_row and on, as far as there are so many.
template <int kRanks>
__device__ void store_sums(const float (&sums)[kRanks / 8][4], int first_row, PartialRows part) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + 8 * half + lane / 4;
    float* at = part.to + int64_t{row} * part.ranks + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < kRanks / 8; ++n)
      if (row < part.rows && 8 * n < part.ranks)
        *reinterpret_cast<float2*>(at + 8 * n) =
            make_float2(sums[n][2 * half], sums[n][2 * half + 1]);
  }
}

}  // namespace weft::ops::cuda::adapter
