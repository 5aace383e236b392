// Our Hopper product's tiles: how they are cut and walked, where a block has them in shared memory,
// and what the kernel is given.
#pragma once

#include "kernels/cuda/hopper.cuh"

namespace weft::ops::cuda::hopper {

constexpr int kColumns = 128, kDepth = 64;  // of a tile, and of a step
constexpr int kStages = 5;                  // steps in shared memory
constexpr int kSlots = 2;                   // chunks of results of a warpgroup there
constexpr int kThreadsOfProduct = 384;
constexpr int kMostThin = 4;
constexpr int kHalf = 64;      // columns of a tensor core's product, and of a chunk
constexpr int kLine = 128;     // bytes of such a line: swizzled in groups of 8
constexpr int kMostBand = 12;  // tiles of rows that are walked together

// How tiles are cut: c's rows of a tile and of a chunk of results. The blocks of a pair copy the
// first and the other rows of a's part.
template <int rows_, int chunk_>
struct TileSizes {
  static constexpr int rows = rows_, chunk = chunk_;
  static constexpr int first_rows = (rows / 2 + 7) / 8 * 8, other_rows = rows - first_rows;
  static constexpr int bytes_of_b = kColumns * kDepth * 2, bytes_of_a = rows * kDepth * 2;
  static constexpr int bytes_of_stage = bytes_of_b + bytes_of_a;
  static constexpr int bytes_of_slot = chunk * kLine;
  static constexpr int num_barriers = 2 * kStages + 2 + 2 * kSlots;
  static constexpr int shared_bytes =
      1024 + kStages * bytes_of_stage + 2 * kSlots * bytes_of_slot + num_barriers * 8;
  static_assert(rows % chunk == 0 && chunk % 8 == 0 && shared_bytes <= 227 * 1024);
};

// Boxes: b and its like [kColumns, kDepth], or [kDepth, kHalf] where it is contiguous along the
// columns; a and its like [first_rows or other_rows, kDepth], for each block of a pair; c and the
// addend [chunk, kHalf].
struct ProductMaps {
  CUtensorMap a[2], b, c, addend;
  CUtensorMap thin_a[kMostThin][2], thin_b[kMostThin];
};

struct ThinColumns {
  int begin, end;  // of c
  int steps;       // of depth
  int last_depth;  // of the last step
};

template <class T>
struct ProductArgs {
  int rows, columns, steps;
  int thins;
  ThinColumns thin[kMostThin];
  bool has_addend;
  const T* bias;  // [columns] or null
};

struct Shared {
  uint8_t* stages;  // aligned to 1024
  uint8_t* slots;
  uint64_t *full, *empty;  // of the stages
  uint64_t* turn;          // of each warpgroup: the other one has issued its products
  uint64_t* added;         // of each warpgroup and slot: the addend is there
};
template <class Sizes>
__device__ Shared shared_of(uint8_t* raw) {
  Shared s;
  s.stages =
      reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(raw) + 1023) & ~uintptr_t{1023});
  s.slots = s.stages + kStages * Sizes::bytes_of_stage;
  s.full = reinterpret_cast<uint64_t*>(s.slots + 2 * kSlots * Sizes::bytes_of_slot);
  s.empty = s.full + kStages;
  s.turn = s.empty + kStages;
  s.added = s.turn + 2;
  return s;
}
// One thread; a cluster_sync() must follow.
__device__ inline void init_barriers(const Shared& s) {
  for (int i = 0; i < kStages; ++i) {
    init_barrier(s.full[i], 1);
    init_barrier(s.empty[i], 2);  // a warpgroup of each block
  }
  for (int i = 0; i < 2; ++i) init_barrier(s.turn[i], 4);  // warps
  for (int i = 0; i < 2 * kSlots; ++i) init_barrier(s.added[i], 1);
  publish_barriers();
}

// The stage that is next, and how often it has been used.
struct StageWalk {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void advance() {
    if (++stage < kStages) return;
    stage = 0;
    parity ^= 1;
  }
  __device__ void skip(int steps) {
    stage += steps % kStages;
    parity ^= steps / kStages & 1;
    if (stage < kStages) return;
    stage -= kStages;
    parity ^= 1;
  }
};

struct Tile {
  int row, column;
};
// The order of a walk that stays within a band of rows, so that the cache holds what is read again.
struct TileWalk {
  int row_tiles, pairs, height;  // of a band

  template <class Sizes, class T>
  __device__ static TileWalk of(const ProductArgs<T>& p) {
    TileWalk walk;
    walk.row_tiles = (p.rows + Sizes::rows - 1) / Sizes::rows;
    walk.pairs = (p.columns + 2 * kColumns - 1) / (2 * kColumns);
    const int bands = (walk.row_tiles + kMostBand - 1) / kMostBand;
    walk.height = (walk.row_tiles + bands - 1) / bands;
    return walk;
  }
  __device__ int tiles() const { return row_tiles * pairs; }
  template <class Sizes>
  __device__ Tile at(int t, int rank) const {
    const int band = t / (height * pairs), in_band = t % (height * pairs);
    const int rows = min(height, row_tiles - band * height);
    return {(band * height + in_band % rows) * Sizes::rows, (in_band / rows * 2 + rank) * kColumns};
  }
};

// Both blocks of a pair take the same steps: those that touch the tile of either.
template <class T>
__device__ bool touches(const ProductArgs<T>& p, int thin, int column) {
  const int first = column / (2 * kColumns) * (2 * kColumns);
  return p.thin[thin].begin < first + 2 * kColumns && first < p.thin[thin].end;
}
template <class T>
__device__ int steps_of(const ProductArgs<T>& p, int column) {
  int steps = p.steps;
  for (int i = 0; i < p.thins; ++i)
    if (touches(p, i, column)) steps += p.thin[i].steps;
  return steps;
}

}  // namespace weft::ops::cuda::hopper
