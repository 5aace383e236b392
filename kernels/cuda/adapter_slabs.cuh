// How the one pass of adapters' gradients over dy is cut into slabs, and what its kernels are
// given.
#pragma once

#include <algorithm>

#include "kernels/cuda/adapter_tiles.cuh"

namespace weft::ops::cuda::adapter {

constexpr int kTile = 128;        // tokens and columns of a tile
constexpr int kMostSegments = 8;  // of a launch
constexpr int kFewestSubs = 4;    // tiles of tokens in a slab

struct Segment {
  const void* dy;      // at its first column
  const void* h;       // at its first rank
  const void* b;       // [columns, ranks]
  void* dh;            // at its first rank
  void* db;            // [columns, ranks]
  float* dh_partials;  // [slabs, tokens, ranks]
  float* db_partials;  // [token slabs, columns, ranks]
  int64_t columns;
  int ranks;  // a multiple of 8
  int slabs;  // of its columns
  float dh_scale;
  float db_scale;
  bool db_is_f32;
};

// Given to the kernel by value; what the outputs and their scales are, the host tells the sums.
struct Params {
  Segment segments[kMostSegments];
  int num_segments;
  int64_t tokens;
  int64_t dy_stride;  // elements between tokens
  int64_t h_stride;   // of h and dh
  int token_slabs;
  int subs;        // tiles of tokens in a slab
  int slab_tiles;  // tiles of columns in a slab
};

inline int64_t tiles_of(int64_t columns) {
  return divide_up(columns, kTile);
}

inline int64_t blocks_of(const Params& p) {
  int64_t slabs = 0;
  for (int i = 0; i < p.num_segments; ++i) slabs += p.segments[i].slabs;
  return slabs * p.token_slabs;
}

// Elements of the partial sums.
inline int64_t partials_of(const Params& p) {
  int64_t sum = 0;
  for (int i = 0; i < p.num_segments; ++i) {
    const Segment& s = p.segments[i];
    sum += s.ranks * (s.slabs * p.tokens + p.token_slabs * s.columns);
  }
  return sum;
}

inline void cut_by(Params& p, int subs, int slab_tiles) {
  p.subs = subs;
  p.slab_tiles = slab_tiles;
  p.token_slabs = static_cast<int>(divide_up(p.tokens, int64_t{subs} * kTile));
  for (int i = 0; i < p.num_segments; ++i)
    p.segments[i].slabs = static_cast<int>(divide_up(tiles_of(p.segments[i].columns), slab_tiles));
}

// Bytes that take as long: of rounds in which every SM has a slab, and of the partial sums.
inline int64_t cost(const Params& p) {
  constexpr int64_t kTileBytes = 2 * kTile * kTile;
  constexpr int64_t kStart = 2 * kTileBytes;  // until a block's pipeline runs
  const int64_t rounds = divide_up(blocks_of(p), kSms);
  return rounds * kSms * (p.slab_tiles * p.subs * kTileBytes + kStart) + 2 * 4 * partials_of(p);
}

struct SlabSize {
  int subs, tiles;  // of tokens, of columns
};
// The cheapest of all sizes of a slab, by cost(size); subs are powers of two times the fewest.
template <class Cost>
SlabSize cheapest_slab(SlabSize fewest, SlabSize most, const Cost& cost) {
  SlabSize best = fewest;
  int64_t least = INT64_MAX;
  for (int subs = fewest.subs; subs <= most.subs; subs *= 2)
    for (int tiles = fewest.tiles; tiles <= most.tiles; ++tiles) {
      const int64_t bytes = cost(SlabSize{subs, tiles});
      if (bytes < least) least = bytes, best = {subs, tiles};
    }
  return best;
}

// Cuts in the cheapest way for the sizes in `p`; depends on nothing else.
inline void cut(Params& p, int most_subs) {
  int64_t most_tiles = 1;
  for (int i = 0; i < p.num_segments; ++i)
    most_tiles = std::max(most_tiles, tiles_of(p.segments[i].columns));
  const SlabSize best =
      cheapest_slab({kFewestSubs, 1}, {most_subs, static_cast<int>(most_tiles)}, [&](SlabSize s) {
        cut_by(p, s.subs, s.tiles);
        return cost(p);
      });
  cut_by(p, best.subs, best.tiles);
  CHECK(blocks_of(p) < (int64_t{1} << 31), "[adapter_gradients] {} blocks", blocks_of(p));
}

// After cut(): `memory` holds partials_of(p).
inline void place_partials(Params& p, float* memory) {
  for (int i = 0; i < p.num_segments; ++i) {
    Segment& s = p.segments[i];
    s.dh_partials = memory;
    s.db_partials = memory + s.slabs * p.tokens * s.ranks;
    memory = s.db_partials + p.token_slabs * s.columns * s.ranks;
  }
}

}  // namespace weft::ops::cuda::adapter
