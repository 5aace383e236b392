// SwiGLU with the thin products around it: what the adapters in front add to gate and up, and the
// hidden part h = y A^T of the projection behind, whose y is multiplied while it is in registers.
// Without it the thin products read and write gate and up, and read y, once more.
//
// A block has 64 tokens and a slab of columns. Tiles of 64 x 128 of gate and up, and the columns of
// A and rows of the Bs beside them, arrive through a ring of shared memory. A warp has sixteen
// tokens and a quarter of a tile's columns, in the tensor cores' order; y takes gate's place in the
// ring on its way to memory. Where there are tokens for all SMs a block has all columns; else the
// slabs' sums are partial (adapter_sums.cuh), as those of the quarters are.
//
// Bytes: 3 T F of 16 bits; A and the Bs come from the L2 cache, a quarter as much at R = 16.
#pragma once

#include "kernels/cuda/adapter_slabs.cuh"
#include "kernels/cuda/adapter_sums.cuh"
#include "kernels/cuda/swiglu.cuh"
#include "kernels/cuda/swiglu_front.cuh"

namespace weft::ops::cuda::gated_hidden {

using adapter::kWarpRows;

constexpr int kTokens = 64, kColumns = 128;  // of a tile
// At 256 the pass waits for loads and products in turn: 13 us more of 230 for [8192 x 14336].
constexpr int kBlockThreads = 512;
using Tiles = adapter::Tiling<kColumns, kBlockThreads>;

constexpr int kRowGroups = kTokens / kWarpRows;
constexpr int kParts = Tiles::kWarps / kRowGroups;  // of a tile's columns
using Part = gated::WarpPart<Tiles, kRowGroups>;
using gated::Block, gated::Words;

template <int kRanks>
struct Sizes {
  static constexpr int kTileElements = kTokens * kColumns;
  static constexpr int kThinElements = kRanks * kColumns;  // of A, and of each B
  static constexpr int kStageElements = 2 * kTileElements + 3 * kThinElements;
  static constexpr int kStages = kRanks <= 16 ? 5 : 4;
  static constexpr int kBytes = 2 * kStages * kStageElements;
  static_assert(kBytes <= 227 * 1024);
};

// Given to the kernel by value.
struct Params {
  const void* gate_up;  // [tokens, 2 width]
  const void* a;        // [ranks, width]
  void* y;              // [tokens, width]
  float* partials;      // [kParts * slabs, tokens, ranks]
  int64_t tokens, width;
  int ranks;              // a multiple of 8
  gated::Front front[2];  // of gate and up
  int64_t h_stride;       // elements between tokens of all h
  int slabs;
  int slab_tiles;
};

inline int64_t blocks_across(const Params& p) {
  return divide_up(p.tokens, kTokens);
}
inline int64_t partials_of(const Params& p) {
  return kParts * p.slabs * p.tokens * p.ranks;
}

// Cuts in the cheapest way for the sizes in `p` (adapter::cut).
inline void cut(Params& p) {
  constexpr int64_t kTileBytes = 3 * 2 * kTokens * kColumns, kStart = 3 * kTileBytes;
  const int64_t all = divide_up(p.width, kColumns);
  const auto cost = [&](adapter::SlabSize size) {
    p.slabs = static_cast<int>(divide_up(all, size.tiles));
    return divide_up(p.slabs * blocks_across(p), kSms) * kSms * (size.tiles * kTileBytes + kStart) +
           2 * 4 * partials_of(p);
  };
  p.slab_tiles = adapter::cheapest_slab({1, 1}, {1, static_cast<int>(all)}, cost).tiles;
  p.slabs = static_cast<int>(divide_up(all, p.slab_tiles));
}

// Tiles of gate, which becomes y, and of up, of A's columns [ranks, kColumns], and of the rows of
// both Bs [kColumns, ranks].
template <class T>
struct Stage {
  T *y, *up, *a;
  T* b[2];
};
template <class T, int kRanks>
__device__ Stage<T> stage_of(unsigned char* shared_bytes, int i) {
  using S = Sizes<kRanks>;
  T* const first = reinterpret_cast<T*>(shared_bytes) + i * S::kStageElements;
  T* const thin = first + 2 * S::kTileElements;
  return {first,
          first + S::kTileElements,
          thin,
          {thin + S::kThinElements, thin + 2 * S::kThinElements}};
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
    for (int i = 0; i < 2; ++i)
      if (const gated::Front& front = p.front[i]; front.ranks > 0)
        adapter::load_ranks<Tiles, kColumns, kRanks>(
            to.b[i], static_cast<const T*>(front.b) + (slab.column + first) * front.ranks,
            front.ranks, columns, front.ranks);
  }
  mma::end_copy_group();
}

// sums[16 tokens, ranks] += y A^T over the warp's part of a tile, whose gate becomes y there.
template <int kRanks, class T>
__device__ void gate_tile(float (&sums)[kRanks / 8][4], const Params& p, const Stage<T>& stage,
                          const gated::FrontRows<kRanks> (&front)[2]) {
  const int lane = threadIdx.x % kWarp;
  const Part part;
  Words gates[part.kBlocks], ups[part.kBlocks], bs[2][part.kBlocks][kRanks / 16];
  part.load(gates, stage.y, 0);
  part.load(ups, stage.up, 0);
#pragma unroll
  for (int i = 0; i < 2; ++i)
    if (p.front[i].ranks > 0) front[i].load_b(bs[i], stage.b[i], part.column(0));
#pragma unroll
  for (int k = 0; k < part.kBlocks; ++k) {
    Block gate, up;
    gated::unpack_block<T>(gate, gates[k]);
    gated::unpack_block<T>(up, ups[k]);
    if (p.front[0].ranks > 0) front[0].add_to(gate, bs[0][k], T());
    if (p.front[1].ranks > 0) front[1].add_to(up, bs[1][k], T());
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      float& g = gate[i / 4][i % 4];
      g = up[i / 4][i % 4] * (g * sigmoid<T>(g));
    }
    gated::pack_block<T>(gates[k], gate);
  }
#pragma unroll
  for (int k = 0; k < part.kBlocks; ++k) {
    part.store(stage.y, k, gates[k]);
#pragma unroll
    for (int i = 0; i < kRanks / 16; ++i) {
      Words a;
      mma::load_matrices(
          a, stage.a + adapter::place<Tiles::kChunks>(16 * i + lane / 16 * 8 + lane % 8,
                                                      part.column(k) / 8 + lane / 8 % 2));
      adapter::add_product<kRanks>(sums, gates[k], a, i, T());
    }
  }
}

// Grid: groups of kTokens tokens, slabs.
template <class T, int kRanks>
__global__ void __launch_bounds__(kBlockThreads, 1)
    swiglu_hidden_kernel(const __grid_constant__ Params p) {
  constexpr int kStages = Sizes<kRanks>::kStages;
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  wait_for_kernel_before();
  const Slab slab(p);
  const auto load = [&](int tile) {
    load_stage<T, kRanks>(p, slab, tile, stage_of<T, kRanks>(shared_bytes, tile % kStages));
  };
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) load(i);

  const Part part;
  gated::FrontRows<kRanks> front[2];
  for (int i = 0; i < 2; ++i)
    front[i].load(static_cast<const T*>(p.front[i].h) + (slab.token + part.row) * p.h_stride,
                  p.h_stride, slab.tokens - part.row, p.front[i].ranks);
  T* const y = static_cast<T*>(p.y) + slab.token * p.width + slab.column;
  float sums[kRanks / 8][4] = {};
  for (int tile = 0; tile * kColumns < slab.columns; ++tile) {
    mma::wait_for_copy_groups<kStages - 2>();
    __syncthreads();  // the stage is whole, and nobody reads the one before it
    load(tile + kStages - 1);
    const Stage<T> stage = stage_of<T, kRanks>(shared_bytes, tile % kStages);
    gate_tile<kRanks>(sums, p, stage, front);
    __syncwarp();
    part.write(y + tile * kColumns, p.width, stage.y, slab.tokens, slab.columns - tile * kColumns);
  }
  const int64_t token = slab.token + part.row;
  const int64_t part_index = blockIdx.y * kParts + part.index;
  adapter::store_sums<kRanks>(
      sums, 0, {p.partials + (part_index * p.tokens + token) * p.ranks, p.tokens - token, p.ranks});
}

}  // namespace weft::ops::cuda::gated_hidden
