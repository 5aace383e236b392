// SwiGLU's backward between adapters: one pass over gate, up and dy also makes the gradients of the
// thin products whose operands it has at hand. Without it those read dgate, dup and y once more,
// and y, which nobody else needs, would be kept or made again.
//
// A block has a slab of up to kSubs tiles of tokens, some tiles of columns. Tiles of 64 x 128 of
// gate, up and dy arrive through a ring of shared memory and become dgate, dup and y there; the
// first two also leave to memory, in place. Then
//   rows of dgate, dup      times the Bs of the projection in front    add to dh (registers),
//   columns of dgate, dup   times its h                                add to dB,
//   columns of y            times dh of the projection behind          add to dA,
// the last two going to partial sums once the slab's tokens are through (adapter_sums.cuh).
//
// Bytes: 5 T F of 16 bits, and of partial sums about a tenth of that at R = 16: [8192 x 14336] is
// 1.17 GB + 9 %, 310 us at 4.1 TB/s. A tile is then an SM's every 3900 cycles of 1.5 GHz; the
// elements take 1500 of them (24 instructions each), the thin products 800.
#pragma once

#include "kernels/cuda/adapter_slabs.cuh"
#include "kernels/cuda/adapter_sums.cuh"
#include "kernels/cuda/chunks.cuh"
#include "kernels/cuda/swiglu.cuh"

namespace weft::ops::cuda::gated {

using adapter::kTile;
using adapter::kWarpRows;
using adapter::PartialRows;
using adapter::TilePart;

constexpr int kTokens = 64;  // of a tile
constexpr int kRowGroups = kTokens / kWarpRows;
constexpr int kStages = 3;
constexpr int kFewestSubs = 2;
static_assert(2 * kRowGroups == adapter::kWarps);  // half of the warps have gate's rows
// A tile of B is loaded kStages - 1 steps early, where the one before the last lay.
static_assert(kFewestSubs >= kStages - 1);

template <int kRanks>
struct Sizes {
  static constexpr int kSubs = 128 / kRanks;  // at most: dh takes kSubs * kRanks / 2 registers
  static constexpr int kTileElements = kTokens * kTile;
  static constexpr int kBElements = kTile * kRanks;
  static constexpr int kHiddenElements = kSubs * kTokens * kRanks;
  static constexpr int kBytes =
      2 * (kStages * 3 * kTileElements + 2 * 2 * kBElements + 3 * kHiddenElements);
  static_assert(kBytes <= 227 * 1024);
};

// The adapter of gate or up.
struct Front {
  const void* h;       // [tokens, ranks]
  const void* b;       // [width, ranks]
  float* dh_partials;  // [slabs, tokens, ranks]
  float* db_partials;  // [token slabs, width, ranks]
  int ranks;           // a multiple of 8; 0: there is none
};
// That of the projection behind.
struct Behind {
  const void* dh;      // [tokens, ranks]
  float* da_partials;  // [token slabs, width, ranks]
  int ranks;
};

// Given to the kernel by value.
struct Params {
  const void* dy;  // [tokens, width]
  void* gate_up;   // [tokens, 2 width]
  int64_t tokens, width;
  Front front[2];
  Behind behind;
  int64_t h_stride, dh_stride;  // elements between tokens of all h, of Behind::dh
  int token_slabs, slabs;
  int subs;        // tiles of tokens in a slab
  int slab_tiles;  // tiles of columns in a slab
};

inline void cut_by(Params& p, adapter::SlabSize size) {
  p.subs = size.subs;
  p.slab_tiles = size.tiles;
  p.token_slabs = static_cast<int>(divide_up(p.tokens, int64_t{size.subs} * kTokens));
  p.slabs = static_cast<int>(divide_up(adapter::tiles_of(p.width), size.tiles));
}

// Elements of the partial sums.
inline int64_t partials_of(const Params& p) {
  const int64_t front = p.front[0].ranks + p.front[1].ranks;
  return front * p.slabs * p.tokens + (front + p.behind.ranks) * p.token_slabs * p.width;
}

// Cuts in the cheapest way for the sizes in `p` (adapter::cut).
inline void cut(Params& p, int most_subs) {
  constexpr int64_t kTileBytes = 5 * 2 * kTokens * kTile, kStart = 2 * kTileBytes;
  const auto most_tiles = static_cast<int>(adapter::tiles_of(p.width));
  cut_by(p, adapter::cheapest_slab(
                {kFewestSubs, 1}, {most_subs, most_tiles}, [&](adapter::SlabSize size) {
                  cut_by(p, size);
                  const int64_t rounds = divide_up(int64_t{p.slabs} * p.token_slabs, adapter::kSms);
                  return rounds * adapter::kSms * (size.tiles * size.subs * kTileBytes + kStart) +
                         2 * 4 * partials_of(p);
                }));
}

// After cut(): `memory` holds partials_of(p).
inline void place_partials(Params& p, float* memory) {
  const auto take = [&](int64_t count) { return std::exchange(memory, memory + count); };
  for (Front& front : p.front) {
    front.dh_partials = take(p.slabs * p.tokens * front.ranks);
    front.db_partials = take(p.token_slabs * p.width * front.ranks);
  }
  p.behind.da_partials = take(p.token_slabs * p.width * p.behind.ranks);
}

// What a block has of the matrices.
struct Slab {
  int index, token_slab;
  int64_t token, column;  // the first
  int tokens, columns;    // as far as there are so many
  int tiles;              // of columns
};

__device__ inline Slab slab_of_block(const Params& p) {
  Slab slab{.index = static_cast<int>(blockIdx.x) / p.token_slabs,
            .token_slab = static_cast<int>(blockIdx.x) % p.token_slabs};
  slab.token = int64_t{slab.token_slab} * p.subs * kTokens;
  slab.column = int64_t{slab.index} * p.slab_tiles * kTile;
  slab.tokens = static_cast<int>(min(p.tokens - slab.token, int64_t{p.subs} * kTokens));
  slab.columns = static_cast<int>(min(p.width - slab.column, int64_t{p.slab_tiles} * kTile));
  slab.tiles = (slab.columns + kTile - 1) / kTile;
  return slab;
}

// Three tiles: gate, up and dy, then their gradients and y.
template <class T>
struct Stage {
  T *gate, *up, *y;
};

// What a block has in shared memory.
template <class T, int kRanks>
struct Shared {
  using S = Sizes<kRanks>;
  T* ring;
  T* b_tiles;  // two of each of the Bs
  T* hidden;   // of all of the slab's tokens: h of gate, h of up, dh of the projection behind

  __device__ explicit Shared(unsigned char* bytes) {
    ring = reinterpret_cast<T*>(bytes);
    b_tiles = ring + kStages * 3 * S::kTileElements;
    hidden = b_tiles + 2 * 2 * S::kBElements;
  }
  __device__ Stage<T> stage(int i) const {
    T* const first = ring + i * 3 * S::kTileElements;
    return {first, first + S::kTileElements, first + 2 * S::kTileElements};
  }
  __device__ T* b_of(int front, int tile) const {
    return b_tiles + (tile % 2 * 2 + front) * S::kBElements;
  }
  __device__ T* hidden_of(int which, int sub) const {
    return hidden + which * S::kHiddenElements + sub * kTokens * kRanks;
  }
};

// A block's loads: the hidden matrices at first, then tile after tile, each a group of copies.
template <class T, int kRanks>
struct Loads {
  using S = Sizes<kRanks>;
  const Params& p;
  const Slab& slab;
  const Shared<T, kRanks>& shared;
  const T *dy, *gate;  // the thread's part of the first tile
  int tile = 0, sub = 0, stage = 0;

  __device__ Loads(const Params& params, const Slab& of, const Shared<T, kRanks>& to)
      : p(params), slab(of), shared(to) {
    const TilePart part;
    const int64_t token = slab.token + part.row, column = slab.column + part.column;
    dy = static_cast<const T*>(p.dy) + token * p.width + column;
    gate = static_cast<const T*>(p.gate_up) + token * 2 * p.width + column;
    load_hidden(0, p.front[0].h, p.h_stride, p.front[0].ranks);
    load_hidden(1, p.front[1].h, p.h_stride, p.front[1].ranks);
    load_hidden(2, p.behind.dh, p.dh_stride, p.behind.ranks);
  }
  __device__ void load_hidden(int which, const void* from, int64_t stride, int ranks) {
    if (ranks == 0) return;
    adapter::load_ranks<S::kSubs * kTokens, kRanks>(
        shared.hidden_of(which, 0), static_cast<const T*>(from) + slab.token * stride, stride,
        slab.tokens, ranks);
  }
  __device__ void load_b(int front) {
    const int ranks = p.front[front].ranks, column = tile * kTile;
    if (ranks == 0) return;
    adapter::load_ranks<kTile, kRanks>(
        shared.b_of(front, tile),
        static_cast<const T*>(p.front[front].b) + (slab.column + column) * ranks, ranks,
        slab.columns - column, ranks);
  }

  // Behind the last tile the groups are empty.
  __device__ void next() {
    if (tile < slab.tiles) {
      if (sub == 0) load_b(0), load_b(1);
      const Stage<T> to = shared.stage(stage);
      const int column = tile * kTile, columns = slab.columns - column;
      const int64_t token = sub * kTokens;
      const auto tokens = static_cast<int>(slab.tokens - token);
      const T* const from = gate + token * 2 * p.width + column;
      adapter::load_tile<kTokens>(to.gate, from, 2 * p.width, tokens, columns);
      adapter::load_tile<kTokens>(to.up, from + p.width, 2 * p.width, tokens, columns);
      adapter::load_tile<kTokens>(to.y, dy + token * p.width + column, p.width, tokens, columns);
      if (++stage == kStages) stage = 0;
      if (++sub == p.subs) sub = 0, ++tile;
    }
    mma::end_copy_group();
  }
};

// The thread's chunks of a stage, which it copied itself, become their gradients and y; those that
// lie within `tokens` and `columns` leave to dgate too, where the thread's first one goes.
template <class T>
__device__ void differentiate(const Stage<T>& stage, T* dgate, int64_t width, int tokens,
                              int columns) {
  constexpr int kCount = kChunk<T>;
  const TilePart part;
  tokens = part.column < columns ? tokens - part.row : 0;
#pragma unroll 1
  for (int i = 0; i < kTokens / TilePart::kStep; ++i) {
    const int at = part.place_of(i);
    float gate[kCount], up[kCount], y[kCount];
    load_floats<true>(gate, stage.gate + at, kCount);
    load_floats<true>(up, stage.up + at, kCount);
    load_floats<true>(y, stage.y + at, kCount);
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      const float s = sigmoid<T>(gate[j]);
      const SwigluGradient d = swiglu_gradient(gate[j], up[j], s, y[j]);
      y[j] = up[j] * (gate[j] * s);
      gate[j] = d.gate;
      up[j] = d.up;
    }
    store_floats<true>(stage.gate + at, gate, kCount);
    store_floats<true>(stage.up + at, up, kCount);
    store_floats<true>(stage.y + at, y, kCount);
    if (i * TilePart::kStep >= tokens) continue;
    T* const to = dgate + int64_t{i} * TilePart::kStep * 2 * width;
    store_floats<true>(to, gate, kCount);
    store_floats<true>(to + width, up, kCount);
  }
}

template <class T, int kRanks>
__global__ void __launch_bounds__(kThreads, 1)
    swiglu_adapters_kernel(const __grid_constant__ Params p) {
  using S = Sizes<kRanks>;
  using Rows = float[kRanks / 8][4];  // sums of 16 rows of a warp
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  const Shared<T, kRanks> shared(shared_bytes);
  const Slab slab = slab_of_block(p);
  Loads<T, kRanks> loads(p, slab, shared);
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) loads.next();

  const TilePart part;
  T* const first = static_cast<T*>(p.gate_up) + (slab.token + part.row) * 2 * p.width +
                   slab.column + part.column;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int front = warp / kRowGroups, row = warp % kRowGroups * kWarpRows;  // of its dh
  const bool has_front = p.front[front].ranks > 0;
  Rows dh[S::kSubs] = {};
  int stage = 0;
  for (int tile = 0; tile < slab.tiles; ++tile) {
    adapter::TimesColumns<kRanks, T> times_b;
    Rows sums[3] = {};  // of the warp's 16 columns: dB of gate, dB of up, dA
    const T* const b = shared.b_of(front, tile);
    const int column = tile * kTile;
#pragma unroll 1
    for (int sub = 0; sub < p.subs; ++sub) {
      mma::wait_for_copy_groups<kStages - 2>();
      const Stage<T> at = shared.stage(stage);
      differentiate(at, first + int64_t{sub} * kTokens * 2 * p.width + column, p.width,
                    slab.tokens - sub * kTokens, slab.columns - column);
      __syncthreads();  // the stage is whole, and nobody reads the one before it
      loads.next();
      if (has_front) {
        if (sub == 0) times_b.start(b);
        Rows more = {};
        times_b.add_to(more, front == 0 ? at.gate : at.up, row, b);
#pragma unroll
        for (int s = 0; s < S::kSubs; ++s)
#pragma unroll
          for (int i = 0; i < kRanks / 2; ++i)
            if (s == sub) dh[s][i / 4][i % 4] += more[i / 4][i % 4];
      }
      const auto add = [&](int which, int ranks, const T* tile_of) {
        if (ranks > 0)
          adapter::add_times_tokens<kTokens, kRanks>(sums[which], tile_of,
                                                     shared.hidden_of(which, sub));
      };
      add(0, p.front[0].ranks, at.gate);
      add(1, p.front[1].ranks, at.up);
      add(2, p.behind.ranks, at.y);
      if (++stage == kStages) stage = 0;
    }
    const auto store = [&](int which, float* partials, int ranks) {
      const int64_t from = slab.column + column;
      if (ranks > 0)
        adapter::store_sums<kRanks>(
            sums[which], warp * kWarpRows,
            {partials + (slab.token_slab * p.width + from) * ranks, p.width - from, ranks});
    };
    store(0, p.front[0].db_partials, p.front[0].ranks);
    store(1, p.front[1].db_partials, p.front[1].ranks);
    store(2, p.behind.da_partials, p.behind.ranks);
  }
  if (!has_front) return;
#pragma unroll
  for (int sub = 0; sub < S::kSubs; ++sub) {
    const int64_t token = slab.token + int64_t{sub} * kTokens;
    const Front& of = p.front[front];
    if (sub < p.subs)
      adapter::store_sums<kRanks>(dh[sub], row,
                                  {of.dh_partials + (slab.index * p.tokens + token) * of.ranks,
                                   p.tokens - token, of.ranks});
  }
}

}  // namespace weft::ops::cuda::gated
