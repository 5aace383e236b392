// Our own product for Hopper: c[M,N] = a[M,K] b[K,N] + thin products + addend, which a library
// would do in several passes over c. Persistent pairs of blocks walk over pairs of tiles, one below
// the other, whose part of b they copy for each other; in a block one warpgroup copies and two
// multiply 64 rows each. A thin product is some more steps of depth for the tiles that it touches.
#pragma once

#include <cuda_bf16.h>

#include "kernels/cuda/wgmma.cuh"

namespace weft::ops::cuda::hopper {

constexpr int kRows = 128, kDepth = 64;  // of a tile, and of a step
constexpr int kThreadsOfProduct = 384;
constexpr int kMostThin = 4;
constexpr int kChunk = 64;  // columns that leave at once, of 64 rows
constexpr int kChunkBytes = 64 * kChunk * 2;

// Boxes: a and its like [kRows, kDepth]; b [kDepth, 64], or [columns of a tile / 2, kDepth] where
// it is contiguous along the depth; c [64, kChunk].
struct ProductMaps {
  CUtensorMap a, b, c;
  CUtensorMap thin_a[kMostThin], thin_b[kMostThin];
};

struct ThinColumns {
  int begin, end;  // of c
  int steps;       // of depth
};

template <class T>
struct ProductArgs {
  int rows, columns, steps;
  int thins;
  ThinColumns thin[kMostThin];
  const T* addend;  // [rows, columns] or null
  int64_t ld_addend;
};

// How tiles are cut: columns of a tile, stages of operands and chunks of results a warpgroup in
// shared memory.
template <int columns_, int stages_, int slots_>
struct TileSizes {
  static constexpr int columns = columns_, stages = stages_, slots = slots_;
  static constexpr int bytes_of_a = kRows * kDepth * 2, bytes_of_b = columns * kDepth * 2;
  static constexpr int bytes_of_stage = bytes_of_a + bytes_of_b;
  static constexpr int shared_bytes =
      1024 + stages * bytes_of_stage + 2 * slots * kChunkBytes + 2 * stages * 8;
};

struct Shared {
  uint8_t* stages;  // aligned to 1024
  uint8_t* slots;
  uint64_t *full, *empty;
};
template <class Sizes>
__device__ Shared shared_of(uint8_t* raw) {
  Shared s;
  s.stages =
      reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(raw) + 1023) & ~uintptr_t{1023});
  s.slots = s.stages + Sizes::stages * Sizes::bytes_of_stage;
  s.full = reinterpret_cast<uint64_t*>(s.slots + 2 * Sizes::slots * kChunkBytes);
  s.empty = s.full + Sizes::stages;
  return s;
}

// The stage that is next, and how often it has been used.
template <int kStages>
struct StageWalk {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void advance() {
    if (++stage < kStages) return;
    stage = 0;
    parity ^= 1;
  }
};

struct Tile {
  int row, column;
};
// The order of a walk that stays within a band of rows, so that the cache holds what is read again.
__device__ inline Tile tile_at(int t, int pairs, int tiles_across, int columns_of_tile, int rank) {
  constexpr int kBand = 8;
  const int band = t / (kBand * tiles_across), in_band = t % (kBand * tiles_across);
  const int height = min(kBand, pairs - band * kBand);
  return {((band * kBand + in_band % height) * 2 + rank) * kRows,
          in_band / height * columns_of_tile};
}

template <class T>
__device__ bool touches(const ProductArgs<T>& p, int thin, int column, int columns_of_tile) {
  return p.thin[thin].begin < column + columns_of_tile && column < p.thin[thin].end;
}

// --- copying -------------------------------------------------------------------------------------

template <class Sizes, bool kRowsOfB>
class Copier {
 public:
  __device__ Copier(const Shared& shared, int rank) : shared_(shared), rank_(rank) {}

  // This block's rows of a and its share of b's boxes, for both blocks.
  __device__ void step(const CUtensorMap& a, const CUtensorMap& b, int row, int column, int depth) {
    wait(shared_.empty[walk_.stage], walk_.parity ^ 1);
    uint64_t& full = shared_.full[walk_.stage];
    uint8_t* const to = shared_.stages + walk_.stage * Sizes::bytes_of_stage;
    arrive_expecting(full, Sizes::bytes_of_stage);
    copy_box(to, a, full, depth, row);
    uint8_t* const to_b = to + Sizes::bytes_of_a;
    constexpr uint16_t kBoth = 3;
    if constexpr (kRowsOfB) {
      for (int box = rank_; box < Sizes::columns / 64; box += 2)
        copy_box_to(kBoth, to_b + box * 64 * kDepth * 2, b, full, column + box * 64, depth);
    } else {
      constexpr int kHalf = Sizes::columns / 2;
      copy_box_to(kBoth, to_b + rank_ * kHalf * kDepth * 2, b, full, depth, column + rank_ * kHalf);
    }
    walk_.advance();
  }

 private:
  Shared shared_;
  int rank_;
  StageWalk<Sizes::stages> walk_;
};

template <class T, class Sizes, bool kRowsOfB>
__device__ void copy_tile(Copier<Sizes, kRowsOfB>& copier, const ProductMaps& maps,
                          const ProductArgs<T>& p, Tile tile) {
  for (int s = 0; s < p.steps; ++s) copier.step(maps.a, maps.b, tile.row, tile.column, s * kDepth);
  for (int i = 0; i < p.thins; ++i)
    if (touches(p, i, tile.column, Sizes::columns))
      for (int s = 0; s < p.thin[i].steps; ++s)
        copier.step(maps.thin_a[i], maps.thin_b[i], tile.row, tile.column - p.thin[i].begin,
                    s * kDepth);
}

// --- multiplying ---------------------------------------------------------------------------------

template <class T, class Sizes, bool kRowsOfB>
class Multiplier {
 public:
  __device__ Multiplier(const Shared& shared, int half) : shared_(shared), half_(half) {}

  // sums (=) the products of so many steps; frees the stages of both blocks behind itself.
  __device__ void multiply_steps(float (&sums)[Sizes::columns / 2], int steps) {
    int last = 0;
    for (int s = 0; s < steps; ++s) {
      wait(shared_.full[walk_.stage], walk_.parity);
      multiply_stage(sums, shared_.stages + walk_.stage * Sizes::bytes_of_stage, s > 0);
      if (s > 0) {
        wait_products<1>();
        release(last);
      }
      last = walk_.stage;
      walk_.advance();
    }
    wait_products<0>();
    hold(sums);
    if (steps > 0) release(last);
  }

 private:
  __device__ void multiply_stage(float (&sums)[Sizes::columns / 2], const uint8_t* from, bool add) {
    constexpr int kStepOfB = kRowsOfB ? 16 * 128 : 32;  // bytes from one depth of 16 to the next
    const uint64_t a = descriptor(from + half_ * 64 * kDepth * 2, 16, 1024);
    const uint64_t b = descriptor(from + Sizes::bytes_of_a, kRowsOfB ? 64 * kDepth * 2 : 16, 1024);
    begin_products();
#pragma unroll
    for (int i = 0; i < kDepth / 16; ++i)
      multiply<T, kRowsOfB>(sums, a + i * 32 / 16, b + i * kStepOfB / 16, add || i > 0);
    commit_products();
  }
  __device__ void release(int stage) {
    if (threadIdx.x % 128 < 2) arrive_at(shared_.empty[stage], threadIdx.x % 128);
  }

  Shared shared_;
  int half_;
  StageWalk<Sizes::stages> walk_;
};

// --- results -------------------------------------------------------------------------------------

template <class T>
__device__ uint32_t pack(float low, float high) {
  if constexpr (std::is_same_v<T, __half>) {
    const __half2 v = __floats2half2_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&v);
  } else {
    const __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&v);
  }
}
template <class T>
__device__ float2 unpack(uint32_t v) {
  if constexpr (std::is_same_v<T, __half>)
    return __half22float2(*reinterpret_cast<const __half2*>(&v));
  else
    return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&v));
}

// Lane q of each four has piece q of 4 blocks and gets the 4 pieces of block q, or the other way.
__device__ inline void transpose_four(uint32_t (&v)[4]) {
  const int q = threadIdx.x & 3;
#pragma unroll
  for (int p = 0; p < 4; p += 2) {
    const uint32_t got = __shfl_xor_sync(~0u, q & 1 ? v[p] : v[p + 1], 1);
    (q & 1 ? v[p] : v[p + 1]) = got;
  }
#pragma unroll
  for (int p = 0; p < 2; ++p) {
    const uint32_t got = __shfl_xor_sync(~0u, q & 2 ? v[p] : v[p + 2], 2);
    (q & 2 ? v[p] : v[p + 2]) = got;
  }
}

// A warpgroup's 64 rows on their way out, a few chunks at a time.
template <class T, class Sizes>
class Sender {
 public:
  __device__ Sender(const Shared& shared, int half)
      : slots_(shared.slots + half * Sizes::slots * kChunkBytes), barrier_(1 + half) {}

  __device__ void send(const ProductMaps& maps, const ProductArgs<T>& p,
                       const float (&sums)[Sizes::columns / 2], int row, int column) {
    constexpr int kChunks = Sizes::columns / kChunk;
#pragma unroll
    for (int first = 0; first < kChunks; first += Sizes::slots) {
      const int count = min(Sizes::slots, kChunks - first);
      if (leads()) wait_stores_read();
      warpgroup_sync(barrier_);
#pragma unroll
      for (int i = 0; i < Sizes::slots; ++i)
        if (first + i < kChunks)
          fill(slots_ + i * kChunkBytes, p, sums, first + i, row, column + (first + i) * kChunk);
      publish_shared();
      warpgroup_sync(barrier_);
      if (leads())
        for (int i = 0; i < count; ++i)
          store_box(maps.c, slots_ + i * kChunkBytes, column + (first + i) * kChunk, row);
    }
  }
  __device__ void finish() const {
    if (leads()) wait_stores_read();
  }

 private:
  __device__ static bool leads() {
    return threadIdx.x % 128 == 0;
  }

  // Rows of 128 bytes in pieces of 16, swizzled as the copies expect it.
  __device__ static void fill(uint8_t* chunk, const ProductArgs<T>& p,
                              const float (&sums)[Sizes::columns / 2], int which, int row,
                              int column) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x / 32 & 3;
    const int line = warp * 16 + (lane & 15);
    uint32_t added[4][4] = {};
    if (p.addend) load_addend(added, p, row + warp * 16 + lane / 4, column + lane % 4 * 8);
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      uint32_t v[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int half = i & 1, j = pair * 2 + i / 2, at = (which * 8 + j) * 4 + half * 2;
        const float2 add = unpack<T>(added[half * 2 + j / 4][j % 4]);
        v[i] = p.addend ? pack<T>(sums[at] + add.x, sums[at + 1] + add.y)
                        : pack<T>(sums[at], sums[at + 1]);
      }
      const int piece = pair * 2 + lane / 16;
      store_matrices(chunk + line * 128 + ((piece ^ (line & 7)) << 4), v);
    }
  }

  // [half * 2 + j / 4][j % 4]: the two columns of row 8 half that belong to sums 4 j + 2 half.
  __device__ static void load_addend(uint32_t (&added)[4][4], const ProductArgs<T>& p, int row,
                                     int column) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int r = row + i / 2 * 8, c = column + i % 2 * 32;
      if (r >= p.rows || c >= p.columns) continue;
      const uint4 v = *reinterpret_cast<const uint4*>(p.addend + r * p.ld_addend + c);
      added[i][0] = v.x, added[i][1] = v.y, added[i][2] = v.z, added[i][3] = v.w;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) transpose_four(added[i]);
  }

  uint8_t* slots_;
  int barrier_;
};

// --- the kernel ----------------------------------------------------------------------------------

// Grid: an even number of blocks, at most one a multiprocessor. Block: kThreadsOfProduct threads.
template <class T, class Sizes, bool kRowsOfB>
__global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(kThreadsOfProduct, 1)
    product_kernel(const __grid_constant__ ProductMaps maps,
                   const __grid_constant__ ProductArgs<T> p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ uint8_t raw[];
  const Shared shared = shared_of<Sizes>(raw);
  const int group = threadIdx.x / 128, rank = static_cast<int>(cluster_rank());
  if (threadIdx.x == 0) {
    for (int i = 0; i < Sizes::stages; ++i) {
      init_barrier(shared.full[i], 1);
      init_barrier(shared.empty[i], 4);  // two warpgroups of two blocks
    }
    publish_barriers();
  }
  cluster_sync();
  const int pairs = (p.rows + 2 * kRows - 1) / (2 * kRows);
  const int tiles_across = (p.columns + Sizes::columns - 1) / Sizes::columns;
  const auto for_each_tile = [&](auto body) {
    for (int t = blockIdx.x / 2; t < pairs * tiles_across; t += gridDim.x / 2)
      body(tile_at(t, pairs, tiles_across, Sizes::columns, rank));
  };
  if (group == 0) {
    give_registers<40>();
    if (threadIdx.x == 0) {
      Copier<Sizes, kRowsOfB> copier(shared, rank);
      for_each_tile([&](Tile tile) { copy_tile(copier, maps, p, tile); });
    }
    __syncwarp();
  } else {
    take_registers<232>();
    Multiplier<T, Sizes, kRowsOfB> multiplier(shared, group - 1);
    Sender<T, Sizes> sender(shared, group - 1);
    float sums[Sizes::columns / 2];
    for_each_tile([&](Tile tile) {
      int steps = p.steps;
      for (int i = 0; i < p.thins; ++i)
        if (touches(p, i, tile.column, Sizes::columns)) steps += p.thin[i].steps;
      multiplier.multiply_steps(sums, steps);
      sender.send(maps, p, sums, tile.row + (group - 1) * 64, tile.column);
    });
    sender.finish();
  }
  cluster_sync();  // neither block leaves while the other copies to it or arrives at its barriers
#else
  __trap();  // sm_90a only; takes() sees to that
#endif
}

}  // namespace weft::ops::cuda::hopper
