// The gradient of adapters' As, dA = dh^T x, in one pass over x, or over what x is the norm of: x
// is then made on the way from shared memory to the tensor cores, with the bits that the norm gave.
//
// A block has 128 columns of a slab of tokens. Tiles of 128 x 128 of x and of 128 tokens of dh
// arrive through a ring of shared memory. A warp has 32 columns of a quarter of the tile's tokens;
// the quarters are added at the end, those of other blocks by adapter_sums.cuh.
//
// Bytes: 2 T K of x. dh comes from the L2 cache once for every 128 columns; partial sums,
// written and read, are 4 R / (tokens of a slab) of x: for [8192 x 4096], R = 48, 128 blocks have
// 2048 tokens each, 9 %.
#pragma once

#include <type_traits>

#include "kernels/cuda/adapter_slabs.cuh"
#include "kernels/cuda/adapter_sums.cuh"
#include "kernels/cuda/chunks.cuh"

namespace weft::ops::cuda::adapter_input {

using adapter::kWarpRows;

constexpr int kTokens = 128, kTile = 128;  // of a tile: its tokens, its columns
constexpr int kBlockThreads = 512;
using Tiles = adapter::Tiling<kTile, kBlockThreads>;

constexpr int kParts = 4;  // of a tile's tokens
constexpr int kPartTokens = kTokens / kParts;
constexpr int kStages = 4;
constexpr int kWarpColumns = kTile / (Tiles::kWarps / kParts);

template <int kRanks>
struct Sizes {
  static constexpr int kTileElements = kTokens * kTile;
  static constexpr int kHiddenElements = kTokens * kRanks;
  static constexpr int kStageElements = kTileElements + kHiddenElements;
  static constexpr int kBytes = kStages * (2 * kStageElements + 4 * kTokens);
  static_assert(kBytes <= 227 * 1024);
  static_assert(4 * kParts * kTile * kRanks <= kBytes);  // the parts at the end
};

// Given to the kernel by value.
struct Params {
  const void* x;       // [tokens, width], or what x is the norm of
  const void* dh;      // [tokens, ranks]
  const float* rstd;   // [tokens]; null: x is no norm
  const void* weight;  // [width], of the norm
  float* partials;     // [slabs, width, ranks]
  int64_t tokens, width;
  int64_t dh_stride;  // elements between tokens
  int ranks;          // a multiple of 8
  int slabs;
  int subs;  // tiles of tokens in a slab
};

inline void cut_by(Params& p, int subs) {
  p.subs = subs;
  p.slabs = static_cast<int>(divide_up(p.tokens, int64_t{subs} * kTokens));
}
inline int64_t partials_of(const Params& p) {
  return p.slabs * p.width * p.ranks;
}
// Cuts in the cheapest way for the sizes in `p` (adapter::cut).
inline void cut(Params& p) {
  constexpr int64_t kTileBytes = 2 * kTokens * kTile, kStart = 3 * kTileBytes;
  const auto most = static_cast<int>(divide_up(p.tokens, kTokens));
  cut_by(p, adapter::cheapest_slab({1, 1}, {most, 1}, [&](adapter::SlabSize size) {
              cut_by(p, size.subs);
              const int64_t blocks = p.slabs * divide_up(p.width, kTile);
              return divide_up(blocks, kSms) * kSms * (size.subs * kTileBytes + kStart) +
                     2 * 4 * partials_of(p);
            }).subs);
}

// A tile of x, as much of dh, and of rstd.
template <class T>
struct Stage {
  T *x, *dh;
  float* rstd;
};
template <class T, int kRanks>
__device__ Stage<T> stage_of(unsigned char* shared_bytes, int i) {
  using S = Sizes<kRanks>;
  T* const first = reinterpret_cast<T*>(shared_bytes) + i * S::kStageElements;
  T* const behind = reinterpret_cast<T*>(shared_bytes) + kStages * S::kStageElements;
  return {first, first + S::kTileElements, reinterpret_cast<float*>(behind) + i * kTokens};
}

// A tile of the block's to a stage; a group of copies, empty behind the slab's last.
template <class T, int kRanks>
__device__ void load_stage(const Params& p, int64_t slab_token, int sub, const Stage<T>& to) {
  const int64_t token = slab_token + int64_t{sub} * kTokens;
  if (sub < p.subs && token < p.tokens) {
    const Tiles part;
    const int64_t column = int64_t{blockIdx.x} * kTile;
    const auto tokens = static_cast<int>(min(p.tokens - token, int64_t{kTokens}));
    const auto columns = static_cast<int>(min(p.width - column, int64_t{kTile}));
    adapter::load_tile<Tiles, kTokens>(
        to.x, static_cast<const T*>(p.x) + (token + part.row) * p.width + column + part.column,
        p.width, tokens, columns);
    const T* const dh = static_cast<const T*>(p.dh) + token * p.dh_stride;
#pragma unroll
    for (int i = 0; i < kRanks / 16; ++i)  // apart: matrices of a power of two
      adapter::load_ranks<Tiles, kTokens, 16>(to.dh + i * kTokens * 16, dh + i * 16, p.dh_stride,
                                              tokens, p.ranks - 16 * i);
    if (const int t = static_cast<int>(threadIdx.x); p.rstd && t < kTokens)
      mma::copy_4_bytes(to.rstd + t, p.rstd + (t < tokens ? token + t : token), t < tokens);
  }
  mma::end_copy_group();
}

// Two values of a column, of neighbouring tokens, as the norm makes them (normalise of
// rms_norm_chunks.cuh).
template <class T>
__device__ unsigned normalised(unsigned pair, float2 rstd, float weight) {
  T at[2];
  memcpy(at, &pair, sizeof pair);
  return mma::pack<T>(__fmul_rn(__fmul_rn(to_float(at[0]), rstd.x), weight),
                      __fmul_rn(__fmul_rn(to_float(at[1]), rstd.y), weight));
}

// The weights of the lane's columns: l / 4 and l / 4 + 8 of each sixteen; 0 behind the last.
template <class W>
struct Weights {
  float at[kWarpColumns / 8];

  __device__ void load(const Params& p, int64_t column) {
#pragma unroll
    for (int i = 0; i < kWarpColumns / 8; ++i) {
      const int64_t c = column + 8 * i + threadIdx.x % kWarp / 4;
      at[i] = c < p.width ? to_float(static_cast<const W*>(p.weight)[c]) : 0.0f;
    }
  }
};

// sums[16 columns each, ranks] += x^T dh over sixteen tokens of a stage, first and on.
template <int kRanks, bool kNorm, class T, class W>
__device__ void add_tokens(float (&sums)[kWarpColumns / 16][kRanks / 8][4], const Stage<T>& stage,
                           int first, const Weights<W>& weights) {
  const int lane = threadIdx.x % kWarp;
  const int chunk = threadIdx.x / kWarp % (kTile / kWarpColumns) * (kWarpColumns / 8);
  unsigned x[kWarpColumns / 16][4];
#pragma unroll
  for (int m = 0; m < kWarpColumns / 16; ++m)
    adapter::load_columns<Tiles>(x[m], stage.x, first, chunk + 2 * m);
  if constexpr (kNorm) {
    const float* const at = stage.rstd + first + lane % 4 * 2;
    const float2 near = *reinterpret_cast<const float2*>(at);
    const float2 far = *reinterpret_cast<const float2*>(at + 8);
#pragma unroll
    for (int m = 0; m < kWarpColumns / 16; ++m)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        x[m][i] = normalised<T>(x[m][i], i < 2 ? near : far, weights.at[2 * m + i % 2]);
  }
#pragma unroll
  for (int i = 0; i < kRanks / 16; ++i) {
    unsigned dh[4];
    adapter::load_operand<16>(dh, stage.dh + i * kTokens * 16, first, 0);
#pragma unroll
    for (int m = 0; m < kWarpColumns / 16; ++m)
      adapter::add_product<kRanks>(sums[m], x[m], dh, i, T());
  }
}

// Adds the parts of the block's sums, in their order, through shared memory that nobody uses any
// more, and stores them as the slab's.
template <int kRanks>
__device__ void store_parts(const float (&sums)[kWarpColumns / 16][kRanks / 8][4], const Params& p,
                            float* shared) {
  constexpr int kNumel = kTile * kRanks;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, columns = warp % (kTile / kWarpColumns);
  __syncthreads();
#pragma unroll
  for (int m = 0; m < kWarpColumns / 16; ++m)
    adapter::store_sums<kRanks>(sums[m], columns * kWarpColumns + 16 * m,
                                {shared + warp / (kTile / kWarpColumns) * kNumel, kTile, kRanks});
  __syncthreads();
  const int64_t column = int64_t{blockIdx.x} * kTile;
  float* const to = p.partials + (blockIdx.y * p.width + column) * p.ranks;
  for (int i = static_cast<int>(threadIdx.x); i < kNumel; i += kBlockThreads) {
    float sum = 0;
#pragma unroll
    for (int part = 0; part < kParts; ++part) sum += shared[part * kNumel + i];
    const int row = i / kRanks, rank = i % kRanks;
    if (column + row < p.width && rank < p.ranks) to[row * p.ranks + rank] = sum;
  }
}

// Grid: tiles of columns, slabs.
template <class T, class W, int kRanks, bool kNorm>
__global__ void __launch_bounds__(kBlockThreads, 1)
    adapter_input_kernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  wait_for_kernel_before();
  const int64_t slab_token = int64_t{blockIdx.y} * p.subs * kTokens;
  const auto load = [&](int sub) {
    load_stage<T, kRanks>(p, slab_token, sub, stage_of<T, kRanks>(shared_bytes, sub % kStages));
  };
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) load(i);

  const int warp = static_cast<int>(threadIdx.x) / kWarp, part = warp / (kTile / kWarpColumns);
  Weights<W> weights{};
  if constexpr (kNorm)
    weights.load(p, int64_t{blockIdx.x} * kTile + warp % (kTile / kWarpColumns) * kWarpColumns);
  float sums[kWarpColumns / 16][kRanks / 8][4] = {};
  for (int sub = 0; sub < p.subs && slab_token + sub * kTokens < p.tokens; ++sub) {
    mma::wait_for_copy_groups<kStages - 2>();
    __syncthreads();  // the tile is here, and nobody reads the one before it
    load(sub + kStages - 1);
    const Stage<T> stage = stage_of<T, kRanks>(shared_bytes, sub % kStages);
#pragma unroll
    for (int k = 0; k < kPartTokens; k += 16)
      add_tokens<kRanks, kNorm>(sums, stage, part * kPartTokens + k, weights);
  }
  mma::wait_for_copy_groups<0>();
  store_parts<kRanks>(sums, p, reinterpret_cast<float*>(shared_bytes));
}

}  // namespace weft::ops::cuda::adapter_input
