// SwiGLU's backward between adapters: one pass over gate, up and dy also makes the gradients of the
// thin products whose operands it has at hand, and adds the adapters' part to gate and up where
// these lack it. Without it the thin products read dgate, dup and y once more, and y, which nobody
// else needs, would be kept or made again.
//
// A block has a slab of up to kSubs tiles of tokens, some tiles of columns. Tiles of 64 x 128 of
// gate, up and dy arrive through a ring of shared memory and become dgate, dup and y there; the
// first two also leave to memory, in place. Then
//   rows of dgate, dup      times the Bs of the projection in front    add to dh (registers),
//   columns of dgate, dup   times its h                                add to dB,
//   columns of y            times dh of the projection behind          add to dA,
// the last two going to partial sums once the slab's tokens are through (adapter_sums.cuh). Half of
// the warps have the rows of gate, half those of up; each has sixteen columns of all three. Between
// two barriers one stage is multiplied and the next one becomes gradients.
//
// Bytes: 5 T F of 16 bits, and of partial sums about a tenth of that at R = 16: [8192 x 14336] is
// 1.17 GB + 9 %, 310 us at 4.1 TB/s.
#pragma once

#include <utility>

#include "kernels/cuda/adapter_slabs.cuh"
#include "kernels/cuda/adapter_sums.cuh"
#include "kernels/cuda/swiglu.cuh"
#include "kernels/cuda/swiglu_front.cuh"

namespace weft::ops::cuda::gated {

using adapter::kWarpRows;

constexpr int kTokens = 64, kColumns = 128;  // of a tile
using Tiles = adapter::Tiling<kColumns, kThreads>;

constexpr int kRowGroups = kTokens / kWarpRows;
constexpr int kStages = 3;
constexpr int kFewestSubs = 2;
constexpr int kAtOnce = 2;  // blocks of a tile that are loaded together, ahead of their sums
static_assert(2 * kRowGroups == Tiles::kWarps && kColumns / kWarpRows == Tiles::kWarps);
using Part = WarpPart<Tiles, kRowGroups>;
// A tile of B is loaded kStages - 1 steps early, where the one before the last lay.
static_assert(kFewestSubs >= kStages - 1);

template <int kRanks>
struct Sizes {
  static constexpr int kSubs = 128 / kRanks;  // at most: dh takes kSubs * kRanks / 2 registers
  static constexpr int kTileElements = kTokens * kColumns;
  static constexpr int kBElements = kColumns * kRanks;
  static constexpr int kHiddenElements = kSubs * kTokens * kRanks;
  static constexpr int kBytes =
      2 * (kStages * 3 * kTileElements + 2 * 2 * kBElements + 3 * kHiddenElements);
  static_assert(kBytes <= 227 * 1024 && kSubs >= kFewestSubs);
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
  bool adds_front;              // gate_up lacks the part h b^T of the adapters in front
  int token_slabs, slabs;
  int subs;        // tiles of tokens in a slab
  int slab_tiles;  // tiles of columns in a slab
};

inline int64_t tiles_of(int64_t width) {
  return divide_up(width, kColumns);
}

inline void cut_by(Params& p, adapter::SlabSize size) {
  p.subs = size.subs;
  p.slab_tiles = size.tiles;
  p.token_slabs = static_cast<int>(divide_up(p.tokens, int64_t{size.subs} * kTokens));
  p.slabs = static_cast<int>(divide_up(tiles_of(p.width), size.tiles));
}

// Elements of the partial sums.
inline int64_t partials_of(const Params& p) {
  const int64_t front = p.front[0].ranks + p.front[1].ranks;
  return front * p.slabs * p.tokens + (front + p.behind.ranks) * p.token_slabs * p.width;
}

// Cuts in the cheapest way for the sizes in `p` (adapter::cut).
inline void cut(Params& p, int most_subs) {
  constexpr int64_t kTileBytes = 5 * 2 * kTokens * kColumns, kStart = 2 * kTileBytes;
  const auto most_tiles = static_cast<int>(tiles_of(p.width));
  cut_by(p, adapter::cheapest_slab(
                {kFewestSubs, 1}, {most_subs, most_tiles}, [&](adapter::SlabSize size) {
                  cut_by(p, size);
                  const int64_t rounds = divide_up(int64_t{p.slabs} * p.token_slabs, kSms);
                  return rounds * kSms * (size.tiles * size.subs * kTileBytes + kStart) +
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
  slab.column = int64_t{slab.index} * p.slab_tiles * kColumns;
  slab.tokens = static_cast<int>(min(p.tokens - slab.token, int64_t{p.subs} * kTokens));
  slab.columns = static_cast<int>(min(p.width - slab.column, int64_t{p.slab_tiles} * kColumns));
  slab.tiles = (slab.columns + kColumns - 1) / kColumns;
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
    const Tiles part;
    const int64_t token = slab.token + part.row, column = slab.column + part.column;
    dy = static_cast<const T*>(p.dy) + token * p.width + column;
    gate = static_cast<const T*>(p.gate_up) + token * 2 * p.width + column;
    load_hidden(0, p.front[0].h, p.h_stride, p.front[0].ranks);
    load_hidden(1, p.front[1].h, p.h_stride, p.front[1].ranks);
    load_hidden(2, p.behind.dh, p.dh_stride, p.behind.ranks);
  }
  __device__ void load_hidden(int which, const void* from, int64_t stride, int ranks) {
    if (ranks == 0) return;
    adapter::load_ranks<Tiles, S::kSubs * kTokens, kRanks>(
        shared.hidden_of(which, 0), static_cast<const T*>(from) + slab.token * stride, stride,
        slab.tokens, ranks);
  }
  __device__ void load_b(int front) {
    const int ranks = p.front[front].ranks, column = tile * kColumns;
    if (ranks == 0) return;
    adapter::load_ranks<Tiles, kColumns, kRanks>(
        shared.b_of(front, tile),
        static_cast<const T*>(p.front[front].b) + (slab.column + column) * ranks, ranks,
        slab.columns - column, ranks);
  }

  // Behind the last tile the groups are empty.
  __device__ void next() {
    if (tile < slab.tiles) {
      if (sub == 0) load_b(0), load_b(1);
      const Stage<T> to = shared.stage(stage);
      const int column = tile * kColumns, columns = slab.columns - column;
      const int64_t token = sub * kTokens;
      const auto tokens = static_cast<int>(slab.tokens - token);
      const T* const from = gate + token * 2 * p.width + column;
      adapter::load_tile<Tiles, kTokens>(to.gate, from, 2 * p.width, tokens, columns);
      adapter::load_tile<Tiles, kTokens>(to.up, from + p.width, 2 * p.width, tokens, columns);
      adapter::load_tile<Tiles, kTokens>(to.y, dy + token * p.width + column, p.width, tokens,
                                         columns);
      if (++stage == kStages) stage = 0;
      if (++sub == p.subs) sub = 0, ++tile;
    }
    mma::end_copy_group();
  }
};

// Where a block is: a tile of columns, of its tokens a tile too, and the stage that holds them.
struct Step {
  int tile = 0, sub = 0, stage = 0;

  __device__ Step next(int subs) const {
    const bool turns = sub + 1 == subs;
    return {tile + turns, turns ? 0 : sub + 1, stage + 1 == kStages ? 0 : stage + 1};
  }
};

// The warp's part of a stage becomes the gradients, which leave to memory too, and y.
template <int kRanks, class T>
__device__ void differentiate(const Params& p, const Slab& slab, const Shared<T, kRanks>& shared,
                              const Step& step) {
  const Stage<T> at = shared.stage(step.stage);
  const Part part;
  FrontRows<kRanks> rows[2];
  if (p.adds_front)
    for (int i = 0; i < 2; ++i) rows[i].load(shared.hidden_of(i, step.sub), part.row);
#pragma unroll
  for (int first = 0; first < part.kBlocks; first += kAtOnce) {
    Words gates[kAtOnce], ups[kAtOnce], ys[kAtOnce], bs[2][kAtOnce][kRanks / 16];
    part.load(gates, at.gate, first);
    part.load(ups, at.up, first);
    part.load(ys, at.y, first);
    if (p.adds_front)
      for (int i = 0; i < 2; ++i)
        rows[i].load_b(bs[i], shared.b_of(i, step.tile), part.column(first));
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      Block gate, up, y;
      unpack_block<T>(gate, gates[k]);
      unpack_block<T>(up, ups[k]);
      unpack_block<T>(y, ys[k]);
      if (p.adds_front) {
        if (p.front[0].ranks > 0) rows[0].add_to(gate, bs[0][k], T());
        if (p.front[1].ranks > 0) rows[1].add_to(up, bs[1][k], T());
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        float &g = gate[i / 4][i % 4], &u = up[i / 4][i % 4], &v = y[i / 4][i % 4];
        const float s = sigmoid<T>(g);
        const SwigluGradient d = swiglu_gradient(g, u, s, v);
        v = u * (g * s);
        g = d.gate;
        u = d.up;
      }
      pack_block<T>(gates[k], gate);
      part.store(at.gate, first + k, gates[k]);
      pack_block<T>(ups[k], up);
      part.store(at.up, first + k, ups[k]);
      pack_block<T>(ys[k], y);
      part.store(at.y, first + k, ys[k]);
    }
  }
  __syncwarp();
  const int64_t token = slab.token + step.sub * kTokens;
  const int tokens = slab.tokens - step.sub * kTokens, column = step.tile * kColumns;
  T* const dgate = static_cast<T*>(p.gate_up) + token * 2 * p.width + slab.column + column;
  part.write(dgate, 2 * p.width, at.gate, tokens, slab.columns - column);
  part.write(dgate + p.width, 2 * p.width, at.up, tokens, slab.columns - column);
}

// dh[sub] += more; a register array has no other index.
template <int kSubs, int kRanks>
__device__ void add_rows(float (&dh)[kSubs][kRanks / 8][4], const float (&more)[kRanks / 8][4],
                         int sub) {
#pragma unroll
  for (int s = 0; s < kSubs; ++s)
#pragma unroll
    for (int i = 0; i < kRanks / 2; ++i)
      if (s == sub) dh[s][i / 4][i % 4] += more[i / 4][i % 4];
}

// The warp's sums of sixteen columns of a tile: dB of gate and up, dA.
template <int kRanks>
struct ColumnSums {
  float of[3][kRanks / 8][4] = {};
  int column = static_cast<int>(threadIdx.x) / kWarp * kWarpRows;

  template <class T>
  __device__ void add(const Params& p, const Stage<T>& at, const Shared<T, kRanks>& shared,
                      int sub) {
    const auto add_one = [&](int which, int ranks, const T* tile) {
      if (ranks > 0)
        adapter::add_times_tokens<Tiles, kTokens, kRanks>(of[which], tile, column / 8,
                                                          shared.hidden_of(which, sub));
    };
    add_one(0, p.front[0].ranks, at.gate);
    add_one(1, p.front[1].ranks, at.up);
    add_one(2, p.behind.ranks, at.y);
  }
  // `first`: the tile's first column.
  __device__ void store(const Params& p, const Slab& slab, int64_t first) const {
    const auto store_one = [&](int which, float* partials, int ranks) {
      const int64_t from = first + column;
      if (ranks > 0)
        adapter::store_sums<kRanks>(
            of[which], 0,
            {partials + (slab.token_slab * p.width + from) * ranks, p.width - from, ranks});
    };
    store_one(0, p.front[0].db_partials, p.front[0].ranks);
    store_one(1, p.front[1].db_partials, p.front[1].ranks);
    store_one(2, p.behind.da_partials, p.behind.ranks);
  }
};

template <class T, int kRanks>
__global__ void __launch_bounds__(kThreads, 1)
    swiglu_adapters_kernel(const __grid_constant__ Params p) {
  using S = Sizes<kRanks>;
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  const Shared<T, kRanks> shared(shared_bytes);
  const Slab slab = slab_of_block(p);
  wait_for_kernel_before();
  Loads<T, kRanks> loads(p, slab, shared);
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) loads.next();

  const Part part;
  const int row = part.row, front = part.index;  // of the warp's dh
  const bool has_rows = p.front[front].ranks > 0;
  float dh[S::kSubs][kRanks / 8][4] = {};
  mma::wait_for_copy_groups<kStages - 2>();
  __syncthreads();
  Step step;
  differentiate(p, slab, shared, step);
  while (step.tile < slab.tiles) {
    adapter::TimesColumns<Tiles, kRanks, T> times_b;
    ColumnSums<kRanks> columns;
    const int tile = step.tile;
    const T* const b = shared.b_of(front, tile);
#pragma unroll 1
    while (step.tile == tile) {
      mma::wait_for_copy_groups<0>();
      // The stage is gradients and y, the next one is whole, and nobody reads the one before.
      __syncthreads();
      loads.next();
      const Stage<T> at = shared.stage(step.stage);
      if (has_rows) {
        if (step.sub == 0) times_b.start(b);
        float more[kRanks / 8][4] = {};
        times_b.add_to(more, front == 0 ? at.gate : at.up, row, b);
        add_rows<S::kSubs, kRanks>(dh, more, step.sub);
      }
      columns.add(p, at, shared, step.sub);
      step = step.next(p.subs);
      if (step.tile < slab.tiles) differentiate(p, slab, shared, step);
    }
    columns.store(p, slab, slab.column + tile * kColumns);
  }
  if (!has_rows) return;
  const Front& of = p.front[front];
#pragma unroll
  for (int sub = 0; sub < S::kSubs; ++sub) {
    const int64_t token = slab.token + sub * kTokens + row;
    if (sub < p.subs)
      adapter::store_sums<kRanks>(dh[sub], 0,
                                  {of.dh_partials + (slab.index * p.tokens + token) * of.ranks,
                                   p.tokens - token, of.ranks});
  }
}

}  // namespace weft::ops::cuda::gated
