// The gradients of low-rank adapters in one pass over dy, through the tensor cores.
//
// A block has a slab of dy: up to kSubs tiles of tokens, some tiles of columns of one segment.
// Tiles of 128 x 128 arrive through a ring of shared memory; each is an operand twice: rows of it
// times B add to the slab's dh, which stays in registers, and columns of it times h add to dB,
// which goes to a partial sum once the slab's tokens are through. A second kernel adds the partial
// sums of all slabs in their order: no atomics, so the same bits each time.
//
// Bytes: 2 T N of dy, and of partial sums, written and read, 4 R / (columns of a slab) of that for
// dh and 4 R / (tokens of a slab) for dB. On an H200, where a copy runs at 4.2 TB/s, R = 16:
//   [8192 x 2 * 14336]   470 MB + 10 %: 134 us; two products that each read dy: 224 us
//   [8192 x 4096]         67 MB + 25 %: 29 us; 32 us at best
// At a copy's rate a tile (32 KB) is an SM's every 1820 cycles. Shared memory then takes 1000 of
// them for R = 16 (R = 64 would be bound by it and slower than two products), the tensor cores 256,
// a warp's 150 instructions 300. 96 KB or more are on their way meanwhile.
#pragma once

#include "kernels/cuda/adapter_slabs.cuh"
#include "kernels/cuda/adapter_sums.cuh"
#include "kernels/cuda/adapter_tiles.cuh"

namespace weft::ops::cuda::adapter {

using Tiles = Tiling<kTile, kThreads>;
static_assert(Tiles::kWarps * kWarpRows == kTile);

template <int kRanks>
struct Sizes {
  static constexpr int kSubs = 8;  // at most: dh takes kSubs * kRanks / 2 registers of a thread
  static constexpr int kStages = kRanks == 16 ? 5 : 4;
  static constexpr int kTileElements = kTile * kTile;
  static constexpr int kRankElements = kTile * kRanks;
  static constexpr int kBytes =
      2 * (kStages * kTileElements + 2 * kRankElements + kSubs * kRankElements);
  static_assert(kBytes <= 227 * 1024);
  // A tile of B is loaded kStages - 1 steps early, where the one before the last lay.
  static_assert(kFewestSubs >= kStages - 1 && kSubs >= kFewestSubs);
};

// What a block has of the matrices.
struct Slab {
  int segment, index;  // of the segment's slabs
  int token_slab;
  int64_t token, column;  // the first
  int tiles;              // of columns
};

__device__ inline Slab slab_of_block(const Params& p) {
  Slab slab{.index = static_cast<int>(blockIdx.x) / p.token_slabs,
            .token_slab = static_cast<int>(blockIdx.x) % p.token_slabs};
  for (; slab.index >= p.segments[slab.segment].slabs; ++slab.segment)
    slab.index -= p.segments[slab.segment].slabs;
  slab.token = int64_t{slab.token_slab} * p.subs * kTile;
  slab.column = int64_t{slab.index} * p.slab_tiles * kTile;
  const int64_t left = p.segments[slab.segment].columns - slab.column;
  slab.tiles = static_cast<int>(min((left + kTile - 1) / kTile, int64_t{p.slab_tiles}));
  return slab;
}

// What a block has in shared memory.
template <class T, int kRanks>
struct Shared {
  T* ring;     // tiles of dy
  T* b_tiles;  // two
  T* h;        // of all of the slab's tokens

  __device__ explicit Shared(unsigned char* bytes) {
    using S = Sizes<kRanks>;
    ring = reinterpret_cast<T*>(bytes);
    b_tiles = ring + S::kStages * S::kTileElements;
    h = b_tiles + 2 * S::kRankElements;
  }
};

// A block's loads: h at first, then tile after tile, each a group of copies.
template <class T, int kRanks>
struct Loads {
  using S = Sizes<kRanks>;
  const Params& p;
  const Slab& slab;
  const Shared<T, kRanks> shared;
  const T *dy, *b;      // dy: the thread's part of the first tile
  int tokens, columns;  // of the slab
  int tile = 0, sub = 0, stage = 0;

  __device__ Loads(const Params& params, const Slab& of, const Shared<T, kRanks>& to)
      : p(params), slab(of), shared(to) {
    const Segment& s = p.segments[slab.segment];
    const Tiles part;
    dy = static_cast<const T*>(s.dy) + (slab.token + part.row) * p.dy_stride + slab.column +
         part.column;
    b = static_cast<const T*>(s.b) + slab.column * s.ranks;
    tokens = static_cast<int>(min(p.tokens - slab.token, int64_t{p.subs} * kTile));
    columns = static_cast<int>(min(s.columns - slab.column, int64_t{slab.tiles} * kTile));
    load_ranks<Tiles, S::kSubs * kTile, kRanks>(
        shared.h, static_cast<const T*>(s.h) + slab.token * p.h_stride, p.h_stride, tokens,
        s.ranks);
  }

  // Behind the last tile the groups are empty.
  __device__ void next() {
    if (tile < slab.tiles) {
      const int column = tile * kTile, token = sub * kTile;
      const int ranks = p.segments[slab.segment].ranks;
      if (sub == 0)
        load_ranks<Tiles, kTile, kRanks>(shared.b_tiles + tile % 2 * S::kRankElements,
                                         b + int64_t{column} * ranks, ranks, columns - column,
                                         ranks);
      load_tile<Tiles, kTile>(shared.ring + stage * S::kTileElements,
                              dy + token * p.dy_stride + column, p.dy_stride, tokens - token,
                              columns - column);
      if (++stage == S::kStages) stage = 0;
      if (++sub == p.subs) sub = 0, ++tile;
    }
    mma::end_copy_group();
  }
};

// Of the slab's partial sums: from a column, from a token on.
__device__ inline PartialRows db_part(const Params& p, const Slab& slab, int64_t column) {
  const Segment& s = p.segments[slab.segment];
  return {s.db_partials + (slab.token_slab * s.columns + column) * s.ranks, s.columns - column,
          s.ranks};
}
__device__ inline PartialRows dh_part(const Params& p, const Slab& slab, int64_t token) {
  const Segment& s = p.segments[slab.segment];
  return {s.dh_partials + (slab.index * p.tokens + token) * s.ranks, p.tokens - token, s.ranks};
}

template <class T, int kRanks>
__global__ void __launch_bounds__(kThreads, 1)
    adapter_gradients_kernel(const __grid_constant__ Params p) {
  using S = Sizes<kRanks>;
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  const Shared<T, kRanks> shared(shared_bytes);
  const Slab slab = slab_of_block(p);
  wait_for_kernel_before();
  Loads<T, kRanks> loads(p, slab, shared);
#pragma unroll
  for (int i = 0; i < S::kStages - 1; ++i) loads.next();

  const int row = static_cast<int>(threadIdx.x) / kWarp * kWarpRows;  // the warp's, and column
  float dh[S::kSubs][kRanks / 8][4] = {};
  int stage = 0;
  for (int tile = 0; tile < slab.tiles; ++tile) {
    const T* b_tile = shared.b_tiles + tile % 2 * S::kRankElements;
    TimesColumns<Tiles, kRanks, T> times_b;
    float db[kRanks / 8][4] = {};
#pragma unroll
    for (int sub = 0; sub < S::kSubs; ++sub) {
      if (sub >= p.subs) break;
      mma::wait_for_copy_groups<S::kStages - 2>();
      __syncthreads();  // the tile is here, and nobody reads the one before it
      loads.next();
      if (sub == 0) times_b.start(b_tile);
      const T* dy_tile = shared.ring + stage * S::kTileElements;
      times_b.add_to(dh[sub], dy_tile, row, b_tile);
      add_times_tokens<Tiles, kTile, kRanks>(db, dy_tile, row / 8,
                                             shared.h + sub * S::kRankElements);
      if (++stage == S::kStages) stage = 0;
    }
    const int64_t column = slab.column + int64_t{tile} * kTile;
    store_sums<kRanks>(db, row, db_part(p, slab, column));
  }
#pragma unroll
  for (int sub = 0; sub < S::kSubs; ++sub) {
    if (sub >= p.subs) break;
    const int64_t token = slab.token + int64_t{sub} * kTile;
    store_sums<kRanks>(dh[sub], row, dh_part(p, slab, token));
  }
}

inline void add_segment(Sums& sums, const Params& p, const Segment& s) {
  sums.add({.partials = s.dh_partials,
            .to = s.dh,
            .rows = p.tokens,
            .row_stride = p.h_stride,
            .count = s.slabs,
            .ranks = s.ranks,
            .scale = s.dh_scale});
  sums.add({.partials = s.db_partials,
            .to = s.db,
            .rows = s.columns,
            .row_stride = s.ranks,
            .count = p.token_slabs,
            .ranks = s.ranks,
            .scale = s.db_scale,
            .adds = true,
            .is_f32 = s.db_is_f32});
}

// REQUIRES: ranks of all segments <= kRanks, cut with at most Sizes<kRanks>::kSubs.
template <class T, int kRanks>
void launch(const Params& p, cudaStream_t stream) {
  constexpr int kBytes = Sizes<kRanks>::kBytes;
  check(cudaFuncSetAttribute(adapter_gradients_kernel<T, kRanks>,
                             cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
        "adapter_gradients");
  const auto blocks = static_cast<unsigned>(blocks_of(p));
  launch_behind(adapter_gradients_kernel<T, kRanks>, blocks, kThreads, kBytes, stream, p);
  check(cudaGetLastError(), "adapter_gradients");
  Sums sums;
  for (int i = 0; i < p.num_segments; ++i) add_segment(sums, p, p.segments[i]);
  add_sums<T>(sums, stream);
}

}  // namespace weft::ops::cuda::adapter
