// SwiGLU with the hidden part h = y A^T of the projection behind: y is multiplied while it is in
// registers. Without it the thin product reads y once more.
//
// A warp walks over 16 tokens of some columns, 32 at a time. Lane l has chunks of 8 columns of
// tokens l / 4 and l / 4 + 8; as a product may take its depth in any order, those are its operand
// as they stand, and chunks of A the other. The next 32 are on their way meanwhile.
//
// Bytes: 3 T F of 16 bits; A comes from the L1 cache, a third as much.
#pragma once

#include "kernels/cuda/adapter_slabs.cuh"
#include "kernels/cuda/adapter_sums.cuh"
#include "kernels/cuda/chunks.cuh"
#include "kernels/cuda/swiglu.cuh"

namespace weft::ops::cuda::gated_hidden {

constexpr int kTokens = 16;   // of a warp
constexpr int kColumns = 32;  // of a round
constexpr int kBlocksOfSm = 3;

// Given to the kernel by value.
struct Params {
  const void* gate_up;  // [tokens, 2 width]
  const void* a;        // [ranks, width]
  void* y;              // [tokens, width]
  float* partials;      // [slabs, tokens, ranks]
  int64_t tokens, width;
  int ranks;  // a multiple of 8
  int slabs;
  int rounds;  // of columns in a slab
};

// Cuts in the cheapest way for the sizes in `p` (adapter::cut).
inline void cut(Params& p) {
  constexpr int64_t kBlockTokens = kTokens * adapter::kWarps, kSlots = adapter::kSms * kBlocksOfSm;
  constexpr int64_t kRoundBytes = 3 * 2 * kBlockTokens * kColumns, kStart = 2 * kRoundBytes;
  const int64_t all = divide_up(p.width, kColumns);
  const auto cost = [&](adapter::SlabSize size) {
    const int64_t slabs = divide_up(all, size.tiles);
    const int64_t turns = divide_up(slabs * divide_up(p.tokens, kBlockTokens), kSlots);
    return turns * kSlots * (size.tiles * kRoundBytes + kStart) +
           2 * 4 * slabs * p.tokens * p.ranks;
  };
  p.rounds = adapter::cheapest_slab({1, 1}, {1, static_cast<int>(all)}, cost).tiles;
  p.slabs = static_cast<int>(divide_up(all, p.rounds));
}

// y of two elements that share a word.
template <class T>
__device__ unsigned gated(unsigned gates, unsigned ups) {
  T gate[2], up[2];
  memcpy(gate, &gates, sizeof gates);
  memcpy(up, &ups, sizeof ups);
  const auto y = [](float g, float u) { return u * (g * sigmoid<T>(g)); };
  return mma::pack<T>(y(to_float(gate[0]), to_float(up[0])), y(to_float(gate[1]), to_float(up[1])));
}
// Of a chunk.
template <class T>
__device__ uint4 gated(const uint4& gate, const uint4& up) {
  return {gated<T>(gate.x, up.x), gated<T>(gate.y, up.y), gated<T>(gate.z, up.z),
          gated<T>(gate.w, up.w)};
}

// A chunk, or zeros.
template <class T>
__device__ uint4 load_or_zeros(const T* from, bool real) {
  return real ? *reinterpret_cast<const uint4*>(from) : uint4{};
}

// sums[16 ranks, 8 tokens] += a y^T over 32 columns: y is the lane's chunk of token l / 4, a those
// of A's rows l / 4 and l / 4 + 8.
template <class T>
__device__ void add_chunks(float (&sums)[4], const uint4 (&a)[2], const uint4& y, T type) {
  mma::product(sums, {a[0].x, a[1].x, a[0].y, a[1].y}, y.x, y.y, type);
  mma::product(sums, {a[0].z, a[1].z, a[0].w, a[1].w}, y.z, y.w, type);
}

// The lane's place: its first token, and whether each half's is one.
struct Place {
  int64_t token;
  bool real[2];
};

// A lane's chunks of a round.
struct Round {
  uint4 gate[2], up[2];

  template <class T>
  __device__ void load(const T* row, int64_t width, const Place& place, int64_t column) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const T* const at = row + half * 8 * 2 * width + column;
      const bool there = place.real[half] && column < width;
      gate[half] = load_or_zeros(at, there);
      up[half] = load_or_zeros(at + width, there);
    }
  }
};

// Of A's rows l / 4 and l / 4 + 8 of each sixteen.
template <int kRanks, class T>
__device__ void load_a(uint4 (&to)[kRanks / 16][2], const T* a, const Params& p, int64_t column) {
#pragma unroll
  for (int i = 0; i < kRanks / 8; ++i) {
    const int rank = 8 * i + threadIdx.x % kWarp / 4;
    to[i / 2][i % 2] =
        load_or_zeros(a + rank * p.width + column, rank < p.ranks && column < p.width);
  }
}

// Of a slab's sums [tokens, ranks]; `token` is the first of eight.
__device__ inline void store_hidden(const float (&sums)[4], const Params& p, int64_t token,
                                    int first_rank) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t t = token + lane % 4 * 2 + i % 2;
    const int rank = first_rank + lane / 4 + i / 2 * 8;
    if (t < p.tokens && rank < p.ranks)
      p.partials[(blockIdx.y * p.tokens + t) * p.ranks + rank] = sums[i];
  }
}

// Grid: groups of kTokens tokens a warp, slabs.
template <class T, int kRanks>
__global__ void __launch_bounds__(kThreads, kBlocksOfSm)
    swiglu_hidden_kernel(const __grid_constant__ Params p) {
  const int lane = threadIdx.x % kWarp;
  const int64_t first_token =
      (int64_t{blockIdx.x} * adapter::kWarps + threadIdx.x / kWarp) * kTokens;
  if (first_token >= p.tokens) return;
  const int64_t token = first_token + lane / 4;
  const Place place{token, {token < p.tokens, token + 8 < p.tokens}};
  const T* const row = static_cast<const T*>(p.gate_up) + token * 2 * p.width;
  T* const y = static_cast<T*>(p.y) + token * p.width;
  const int64_t begin = int64_t{blockIdx.y} * p.rounds * kColumns, first = begin + lane % 4 * 8;
  const int64_t end = min(begin + p.rounds * kColumns, p.width) - begin;
  float sums[2][kRanks / 16][4] = {};
  Round next;
  next.load(row, p.width, place, first);
  for (int64_t i = 0; i < end; i += kColumns) {
    const int64_t column = first + i;
    const Round at = next;
    uint4 a[kRanks / 16][2];
    load_a<kRanks>(a, static_cast<const T*>(p.a), p, column);
    if (i + kColumns < end) next.load(row, p.width, place, column + kColumns);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint4 made = gated<T>(at.gate[half], at.up[half]);
      if (place.real[half] && column < p.width)
        store_16_bytes(y + half * 8 * p.width + column, made);
#pragma unroll
      for (int n = 0; n < kRanks / 16; ++n) add_chunks(sums[half][n], a[n], made, T());
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int n = 0; n < kRanks / 16; ++n)
      store_hidden(sums[half][n], p, first_token + 8 * half, 16 * n);
}

}  // namespace weft::ops::cuda::gated_hidden
