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

#include <type_traits>

#include "kernels/cuda/adapter_slabs.cuh"
#include "kernels/cuda/tensor_core.cuh"

namespace weft::ops::cuda::adapter {

constexpr int kWarpRows = 16;  // of a product: the eight warps share a tile's 128
static_assert(kThreads / kWarp * kWarpRows == kTile);

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

// Element where chunk `chunk` (8 elements) of a row lies that has kChunks of them: rows lie so that
// the same chunk of 8 rows in a row, which a load of matrices reads at once, is in 8 banks' places.
template <int kChunks>
__device__ int place(int row, int chunk) {
  constexpr int kRowsOfLine = kChunks >= 8 ? 1 : 8 / kChunks;
  constexpr int kMixed = kChunks >= 8 ? 8 : kChunks;
  return (row * kChunks + (chunk ^ (row / kRowsOfLine % kMixed))) * 8;
}

// A thread's part of a tile of dy: a chunk of every 16th row.
struct TilePart {
  static constexpr int kChunks = kTile / 8, kStep = kThreads / kChunks;
  int row = threadIdx.x / kChunks;
  int column = threadIdx.x % kChunks * 8;
};

// The thread's part of kTile x kTile elements to `to`; zeros behind `rows` and `columns`, where
// nothing is read, whatever the address. `from` is the thread's first chunk.
template <class T>
__device__ void load_tile(T* to, const T* from, int64_t stride, int rows, int columns) {
  const TilePart part;
  rows = part.column < columns ? rows - part.row : 0;
  to += place<TilePart::kChunks>(part.row, part.column / 8);
#pragma unroll
  for (int i = 0; i < kTile; i += TilePart::kStep, from += TilePart::kStep * stride)
    mma::copy_16_bytes(to + i * kTile, from, i < rows);
}

// kRows x kRanks elements of `rows` x `ranks`; zeros elsewhere.
template <int kRows, int kRanks, class T>
__device__ void load_ranks(T* to, const T* first, int64_t stride, int rows, int ranks) {
  constexpr int kChunks = kRanks / 8;
  static_assert(kRows * kChunks % kThreads == 0);
#pragma unroll
  for (int i = 0; i < kRows * kChunks; i += kThreads) {
    const int row = (i + threadIdx.x) / kChunks, chunk = (i + threadIdx.x) % kChunks;
    const bool real = row < rows && chunk * 8 < ranks;
    mma::copy_16_bytes(to + place<kChunks>(row, chunk),
                       real ? first + row * stride + chunk * 8 : first, real);
  }
}

// Sixteen rows (the depth of a product) and sixteen ranks, 16 i and on, of a tile of B or h.
template <int kRanks, class T>
__device__ void load_operand(unsigned (&to)[4], const T* tile, int first_row, int i) {
  const int lane = threadIdx.x % kWarp;
  mma::load_matrices_transposed(to,
                                tile + place<kRanks / 8>(first_row + lane % 16, 2 * i + lane / 16));
}

// sums[16, ranks 16 i and on] += a[16, 16] b[16, 16].
template <int kRanks, class T>
__device__ void add_product(float (&sums)[kRanks / 8][4], const unsigned (&a)[4],
                            const unsigned (&b)[4], int i, T type) {
  mma::product(sums[2 * i], a, b[0], b[1], type);
  mma::product(sums[2 * i + 1], a, b[2], b[3], type);
}

// The warp's 16 rows of a tile of tokens times the tile of B, which for few ranks stays in
// registers for all tiles of tokens.
template <int kRanks, class T>
struct TimesB {
  static constexpr bool kKeeps = kRanks == 16;
  static constexpr int kDepth = kTile / 16;
  unsigned kept[kKeeps ? kDepth : 1][4];

  __device__ void start(const T* b) {
    if constexpr (kKeeps) {
#pragma unroll
      for (int k = 0; k < kDepth; ++k) load_operand<kRanks>(kept[k], b, 16 * k, 0);
    }
  }
  __device__ void add_to(float (&sums)[kRanks / 8][4], const T* tile, const T* b) {
    const int lane = threadIdx.x % kWarp, row = threadIdx.x / kWarp * kWarpRows + lane % 16;
#pragma unroll(kKeeps ? kDepth : 2)
    for (int k = 0; k < kDepth; ++k) {
      unsigned a[4];
      mma::load_matrices(a, tile + place<kTile / 8>(row, 2 * k + lane / 16));
#pragma unroll
      for (int i = 0; i < kRanks / 16; ++i) {
        if constexpr (!kKeeps) load_operand<kRanks>(kept[0], b, 16 * k, i);
        add_product<kRanks>(sums, a, kept[kKeeps ? k : 0], i, T());
      }
    }
  }
};

// The warp's 16 columns of a tile, over its tokens, times h.
template <int kRanks, class T>
__device__ void add_times_h(float (&sums)[kRanks / 8][4], const T* tile, const T* h) {
  const int lane = threadIdx.x % kWarp;
  const int chunk = threadIdx.x / kWarp * (kWarpRows / 8) + lane / 8 % 2;
#pragma unroll(kRanks == 16 ? 8 : 2)
  for (int k = 0; k < kTile / 16; ++k) {
    unsigned a[4], b[4];
    mma::load_matrices_transposed(
        a, tile + place<kTile / 8>(16 * k + lane / 16 * 8 + lane % 8, chunk));
#pragma unroll
    for (int i = 0; i < kRanks / 16; ++i) {
      load_operand<kRanks>(b, h, 16 * k, i);
      add_product<kRanks>(sums, a, b, i, T());
    }
  }
}

// The warp's 16 rows of a partial sum [rows, ranks]; `to` is the first of the block's.
template <int kRanks>
__device__ void store_sums(const float (&sums)[kRanks / 8][4], float* to, int64_t rows, int ranks) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = threadIdx.x / kWarp * kWarpRows + 8 * half + lane / 4;
    float* at = to + int64_t{row} * ranks + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < kRanks / 8; ++n)
      if (row < rows && 8 * n < ranks)
        *reinterpret_cast<float2*>(at + 8 * n) =
            make_float2(sums[n][2 * half], sums[n][2 * half + 1]);
  }
}

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
    const TilePart part;
    dy = static_cast<const T*>(s.dy) + (slab.token + part.row) * p.dy_stride + slab.column +
         part.column;
    b = static_cast<const T*>(s.b) + slab.column * s.ranks;
    tokens = static_cast<int>(min(p.tokens - slab.token, int64_t{p.subs} * kTile));
    columns = static_cast<int>(min(s.columns - slab.column, int64_t{slab.tiles} * kTile));
    load_ranks<S::kSubs * kTile, kRanks>(shared.h,
                                         static_cast<const T*>(s.h) + slab.token * p.h_stride,
                                         p.h_stride, tokens, s.ranks);
  }

  // Behind the last tile the groups are empty.
  __device__ void next() {
    if (tile < slab.tiles) {
      const int column = tile * kTile, token = sub * kTile;
      const int ranks = p.segments[slab.segment].ranks;
      if (sub == 0)
        load_ranks<kTile, kRanks>(shared.b_tiles + tile % 2 * S::kRankElements,
                                  b + int64_t{column} * ranks, ranks, columns - column, ranks);
      load_tile(shared.ring + stage * S::kTileElements, dy + token * p.dy_stride + column,
                p.dy_stride, tokens - token, columns - column);
      if (++stage == S::kStages) stage = 0;
      if (++sub == p.subs) sub = 0, ++tile;
    }
    mma::end_copy_group();
  }
};

template <class T, int kRanks>
__global__ void __launch_bounds__(kThreads, 1)
    adapter_gradients_kernel(const __grid_constant__ Params p) {
  using S = Sizes<kRanks>;
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  const Shared<T, kRanks> shared(shared_bytes);
  const Slab slab = slab_of_block(p);
  const Segment& segment = p.segments[slab.segment];
  Loads<T, kRanks> loads(p, slab, shared);
#pragma unroll
  for (int i = 0; i < S::kStages - 1; ++i) loads.next();

  float dh[S::kSubs][kRanks / 8][4] = {};
  int stage = 0;
  for (int tile = 0; tile < slab.tiles; ++tile) {
    const T* b_tile = shared.b_tiles + tile % 2 * S::kRankElements;
    TimesB<kRanks, T> times_b;
    float db[kRanks / 8][4] = {};
#pragma unroll
    for (int sub = 0; sub < S::kSubs; ++sub) {
      if (sub >= p.subs) break;
      mma::wait_for_copy_groups<S::kStages - 2>();
      __syncthreads();  // the tile is here, and nobody reads the one before it
      loads.next();
      if (sub == 0) times_b.start(b_tile);
      const T* dy_tile = shared.ring + stage * S::kTileElements;
      times_b.add_to(dh[sub], dy_tile, b_tile);
      add_times_h<kRanks>(db, dy_tile, shared.h + sub * S::kRankElements);
      if (++stage == S::kStages) stage = 0;
    }
    const int64_t column = slab.column + int64_t{tile} * kTile;
    store_sums<kRanks>(
        db, segment.db_partials + (slab.token_slab * segment.columns + column) * segment.ranks,
        segment.columns - column, segment.ranks);
  }
#pragma unroll
  for (int sub = 0; sub < S::kSubs; ++sub) {
    if (sub >= p.subs) break;
    const int64_t token = slab.token + int64_t{sub} * kTile;
    store_sums<kRanks>(dh[sub],
                       segment.dh_partials + (slab.index * p.tokens + token) * segment.ranks,
                       p.tokens - token, segment.ranks);
  }
}

// Four elements of an output at `to`, as floats.
template <class G>
__device__ float4 load_four(const G* from) {
  if constexpr (std::is_same_v<G, float>) {
    return *reinterpret_cast<const float4*>(from);
  } else {
    const uint2 bits = *reinterpret_cast<const uint2*>(from);
    G at[4];
    memcpy(at, &bits, sizeof bits);
    return make_float4(to_float(at[0]), to_float(at[1]), to_float(at[2]), to_float(at[3]));
  }
}
template <class G>
__device__ void store_four(G* to, float4 v) {
  if constexpr (std::is_same_v<G, float>)
    *reinterpret_cast<float4*>(to) = v;
  else
    *reinterpret_cast<uint2*>(to) = make_uint2(mma::pack<G>(v.x, v.y), mma::pack<G>(v.z, v.w));
}

// a + scale * b.
__device__ inline float4 add_scaled(float4 a, float scale, float4 b) {
  return make_float4(fmaf(scale, b.x, a.x), fmaf(scale, b.y, a.y), fmaf(scale, b.z, a.z),
                     fmaf(scale, b.w, a.w));
}

// The threads that share four elements: each adds every summers-th partial sum, four or more.
__host__ __device__ inline int summers_of(int num_partials) {
  return num_partials >= 32 ? 8 : num_partials >= 16 ? 4 : num_partials >= 8 ? 2 : 1;
}

// dh and db of all segments: y = 2 segment (dh), 2 segment + 1 (db).
template <class T>
__global__ void __launch_bounds__(kThreads) sum_partials_kernel(const __grid_constant__ Params p) {
  __shared__ float4 sums[kThreads];
  const Segment& s = p.segments[blockIdx.y / 2];
  const bool is_dh = blockIdx.y % 2 == 0;
  const int count = is_dh ? s.slabs : p.token_slabs, summers = summers_of(count);
  const int64_t numel = (is_dh ? p.tokens : s.columns) * s.ranks;
  const int lanes = kThreads / summers, summer = threadIdx.x / lanes;
  const int64_t at = (int64_t{blockIdx.x} * lanes + threadIdx.x % lanes) * 4;
  const float* partials = (is_dh ? s.dh_partials : s.db_partials) + at;
  float4 sum{};
  if (at < numel) {
#pragma unroll 4
    for (int i = summer; i < count; i += summers)
      sum = add_scaled(sum, 1, load_four(partials + i * numel));
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (summer != 0 || at >= numel) return;
  for (int i = 1; i < summers; ++i) sum = add_scaled(sum, 1, sums[i * lanes + threadIdx.x]);
  if (is_dh) {
    T* to = static_cast<T*>(s.dh) + at / s.ranks * p.h_stride + at % s.ranks;
    return store_four(to, add_scaled({}, s.dh_scale, sum));
  }
  const auto add_to = [&](auto* to) { store_four(to, add_scaled(load_four(to), s.db_scale, sum)); };
  s.db_is_f32 ? add_to(static_cast<float*>(s.db) + at) : add_to(static_cast<T*>(s.db) + at);
}

// REQUIRES: ranks of all segments <= kRanks, cut with at most Sizes<kRanks>::kSubs.
template <class T, int kRanks>
void launch(const Params& p, cudaStream_t stream) {
  constexpr int kBytes = Sizes<kRanks>::kBytes;
  check(cudaFuncSetAttribute(adapter_gradients_kernel<T, kRanks>,
                             cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
        "adapter_gradients");
  int64_t most = 0;  // blocks of a sum
  for (int i = 0; i < p.num_segments; ++i) {
    const Segment& s = p.segments[i];
    most = std::max({most, divide_up(p.tokens * s.ranks * summers_of(s.slabs), 4 * kThreads),
                     divide_up(s.columns * s.ranks * summers_of(p.token_slabs), 4 * kThreads)});
  }
  const auto blocks = static_cast<unsigned>(blocks_of(p));
  adapter_gradients_kernel<T, kRanks><<<blocks, kThreads, kBytes, stream>>>(p);
  check(cudaGetLastError(), "adapter_gradients");
  const dim3 sums(static_cast<unsigned>(most), static_cast<unsigned>(2 * p.num_segments));
  sum_partials_kernel<T><<<sums, kThreads, 0, stream>>>(p);
  check(cudaGetLastError(), "adapter_gradients: sums");
}

}  // namespace weft::ops::cuda::adapter
