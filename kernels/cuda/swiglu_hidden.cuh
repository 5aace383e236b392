// SwiGLU with the hidden part h = y A^T of the projection behind: y is multiplied while it is in
// shared memory. Without it the thin product reads y once more.
//
// A block has 64 tokens and a slab of columns. Tiles of 64 x 128 of gate and up, and the columns of
// A beside them, arrive through a ring of shared memory; y takes gate's place there, leaves to
// memory, and is multiplied: a warp has sixteen tokens and half of a tile's columns. Where there
// are tokens for all SMs a block has all columns; else the slabs' sums are partial
// (adapter_sums.cuh), as those of the halves are.
//
// Bytes: 3 T F of 16 bits; A comes from the L2 cache, a tenth as much.
#pragma once

#include "kernels/cuda/adapter_slabs.cuh"
#include "kernels/cuda/adapter_sums.cuh"
#include "kernels/cuda/chunks.cuh"
#include "kernels/cuda/swiglu.cuh"

namespace weft::ops::cuda::gated_hidden {

using adapter::kWarpRows;

constexpr int kTokens = 64, kColumns = 128;  // of a tile
using Tiles = adapter::Tiling<kColumns, kThreads>;

constexpr int kRowGroups = kTokens / kWarpRows;
constexpr int kHalves = Tiles::kWarps / kRowGroups;  // of a tile's columns
constexpr int kStages = 5;

template <int kRanks>
struct Sizes {
  static constexpr int kTileElements = kTokens * kColumns;
  static constexpr int kStageElements = 2 * kTileElements + kRanks * kColumns;
  static constexpr int kBytes = 2 * kStages * kStageElements;
  static_assert(kBytes <= 227 * 1024);
};

// Given to the kernel by value.
struct Params {
  const void* gate_up;  // [tokens, 2 width]
  const void* a;        // [ranks, width]
  void* y;              // [tokens, width]
  float* partials;      // [kHalves * slabs, tokens, ranks]
  int64_t tokens, width;
  int ranks;  // a multiple of 8
  int slabs;
  int slab_tiles;
};

inline int64_t blocks_across(const Params& p) {
  return divide_up(p.tokens, kTokens);
}
inline int64_t partials_of(const Params& p) {
  return kHalves * p.slabs * p.tokens * p.ranks;
}

// Cuts in the cheapest way for the sizes in `p` (adapter::cut).
inline void cut(Params& p) {
  constexpr int64_t kTileBytes = 3 * 2 * kTokens * kColumns, kStart = 3 * kTileBytes;
  const int64_t all = divide_up(p.width, kColumns);
  const auto cost = [&](adapter::SlabSize size) {
    p.slabs = static_cast<int>(divide_up(all, size.tiles));
    return divide_up(p.slabs * blocks_across(p), adapter::kSms) * adapter::kSms *
               (size.tiles * kTileBytes + kStart) +
           2 * 4 * partials_of(p);
  };
  p.slab_tiles = adapter::cheapest_slab({1, 1}, {1, static_cast<int>(all)}, cost).tiles;
  p.slabs = static_cast<int>(divide_up(all, p.slab_tiles));
}

// Two elements of a word: y.
template <class T>
__device__ unsigned gated(unsigned gates, unsigned ups) {
  T gate[2], up[2];
  memcpy(gate, &gates, sizeof gates);
  memcpy(up, &ups, sizeof ups);
  const auto y = [](float g, float u) { return u * (g * sigmoid<T>(g)); };
  return mma::pack<T>(y(to_float(gate[0]), to_float(up[0])), y(to_float(gate[1]), to_float(up[1])));
}

// A tile of gate, which becomes y, one of up, and of A's columns [ranks, kColumns].
template <class T>
struct Stage {
  T *y, *up, *a;
};
template <class T, int kRanks>
__device__ Stage<T> stage_of(unsigned char* shared_bytes, int i) {
  using S = Sizes<kRanks>;
  T* const first = reinterpret_cast<T*>(shared_bytes) + i * S::kStageElements;
  return {first, first + S::kTileElements, first + 2 * S::kTileElements};
}

// What a block has of the matrices.
struct Slab {
  int64_t token, column;  // the first
  int tokens, columns;    // as far as there are so many

  __device__ explicit Slab(const Params& p) {
    token = int64_t{blockIdx.x} * kTokens;
    column = int64_t{blockIdx.y} * p.slab_tiles * kColumns;
    tokens = static_cast<int>(min(p.tokens - token, int64_t{kTokens}));
    columns = static_cast<int>(min(p.width - column, int64_t{p.slab_tiles} * kColumns));
  }
};

// A group of copies, empty behind the slab's last tile.
template <class T, int kRanks>
__device__ void load_stage(const Params& p, const Slab& slab, int tile, const Stage<T>& to) {
  const int first = tile * kColumns, columns = slab.columns - first;
  if (columns > 0) {
    const Tiles part;
    const T* const gate = static_cast<const T*>(p.gate_up) + (slab.token + part.row) * 2 * p.width +
                          slab.column + first + part.column;
    adapter::load_tile<Tiles, kTokens>(to.y, gate, 2 * p.width, slab.tokens, columns);
    adapter::load_tile<Tiles, kTokens>(to.up, gate + p.width, 2 * p.width, slab.tokens, columns);
    const T* const a =
        static_cast<const T*>(p.a) + part.row * p.width + slab.column + first + part.column;
    adapter::load_tile<Tiles, kRanks>(to.a, a, p.width, p.ranks, columns);
  }
  mma::end_copy_group();
}

// The thread's chunks of a stage, which it copied itself, become y there and, within `tokens` and
// `columns`, in memory, where the thread's first one goes to `y`.
template <class T>
__device__ void make_y(const Stage<T>& stage, T* y, int64_t width, int tokens, int columns) {
  const Tiles part;
  tokens = part.column < columns ? tokens - part.row : 0;
#pragma unroll
  for (int i = 0; i < kTokens / Tiles::kStep; ++i) {
    const int at = part.place_of(i);
    uint4& place = *reinterpret_cast<uint4*>(stage.y + at);
    const uint4 gate = place, up = *reinterpret_cast<const uint4*>(stage.up + at);
    const uint4 made{gated<T>(gate.x, up.x), gated<T>(gate.y, up.y), gated<T>(gate.z, up.z),
                     gated<T>(gate.w, up.w)};
    place = made;
    if (i * Tiles::kStep < tokens) store_16_bytes(y + int64_t{i} * Tiles::kStep * width, made);
  }
}

// sums[16 tokens, ranks] += y A^T over the warp's half of a tile.
template <int kRanks, class T>
__device__ void add_columns(float (&sums)[kRanks / 8][4], const Stage<T>& stage) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int row = warp % kRowGroups * kWarpRows + lane % 16;
  constexpr int kDepth = Tiles::kColumns / 16 / kHalves;
#pragma unroll
  for (int k = 0; k < kDepth; ++k) {
    const int chunk = (warp / kRowGroups * kDepth + k) * 2;
    unsigned y[4];
    mma::load_matrices(y, stage.y + adapter::place<Tiles::kChunks>(row, chunk + lane / 16));
#pragma unroll
    for (int i = 0; i < kRanks / 16; ++i) {
      unsigned a[4];
      mma::load_matrices(a, stage.a + adapter::place<Tiles::kChunks>(
                                          16 * i + lane / 16 * 8 + lane % 8, chunk + lane / 8 % 2));
      adapter::add_product<kRanks>(sums, y, a, i, T());
    }
  }
}

// Grid: groups of kTokens tokens, slabs.
template <class T, int kRanks>
__global__ void __launch_bounds__(kThreads, 1)
    swiglu_hidden_kernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  wait_for_kernel_before();
  const Slab slab(p);
  const auto load = [&](int tile) {
    load_stage<T, kRanks>(p, slab, tile, stage_of<T, kRanks>(shared_bytes, tile % kStages));
  };
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) load(i);

  const Tiles part;
  T* const y = static_cast<T*>(p.y) + (slab.token + part.row) * p.width + slab.column + part.column;
  float sums[kRanks / 8][4] = {};
  for (int tile = 0; tile * kColumns < slab.columns; ++tile) {
    mma::wait_for_copy_groups<kStages - 2>();
    const Stage<T> stage = stage_of<T, kRanks>(shared_bytes, tile % kStages);
    make_y(stage, y + tile * kColumns, p.width, slab.tokens, slab.columns - tile * kColumns);
    __syncthreads();  // the stage is whole, and nobody reads the one before it
    load(tile + kStages - 1);
    add_columns<kRanks>(sums, stage);
  }
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t token = slab.token + warp % kRowGroups * kWarpRows;
  const int64_t part_index = blockIdx.y * kHalves + warp / kRowGroups;
  adapter::store_sums<kRanks>(
      sums, 0, {p.partials + (part_index * p.tokens + token) * p.ranks, p.tokens - token, p.ranks});
}

}  // namespace weft::ops::cuda::gated_hidden
