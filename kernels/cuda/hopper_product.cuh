// Our own product for Hopper: c[M,N] = a[M,K] b[K,N] + thin products + addend or bias, which a
// library would do in several passes over c. Persistent pairs of blocks walk over pairs of tiles,
// side by side, whose part of a they copy for each other. In a block one warpgroup copies and two
// multiply, in turn: while one sends its tile's results away the other has the tensor cores. A
// tile is 128 columns of c, the tensor cores' rows (so b's part is their first operand), by as
// many of its rows as fit best. A thin product is some more steps of depth for the tiles that it
// touches.
//
// What a tile's step of depth 64 needs: 64 x (128 + rows) elements into shared memory, which both
// halves of the pair copy once, and rows * 4 cycles of the tensor cores: 40 bytes a cycle of the L2
// cache at 168 rows. Nothing else is in their way: they are busy 98 % of the time, where two
// warpgroups that share a tile and wait for each other's results reach 93 % at a depth of 4096.
#pragma once

#include <cuda_bf16.h>

#include "kernels/cuda/hopper_product_tiles.cuh"
#include "kernels/cuda/tensor_core.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace weft::ops::cuda::hopper {

// --- copying -------------------------------------------------------------------------------------

template <class Sizes, bool kColumnsOfB>
class Copier {
 public:
  __device__ Copier(const Shared& shared, int rank) : shared_(shared), rank_(rank) {}

  // This block's columns of b, and its share of a's rows for both blocks.
  __device__ void step(const CUtensorMap& b, const CUtensorMap (&a)[2], Tile at, int depth) {
    wait(shared_.empty[walk_.stage], walk_.parity ^ 1);
    uint64_t& full = shared_.full[walk_.stage];
    uint8_t* const to = shared_.stages + walk_.stage * Sizes::bytes_of_stage;
    arrive_expecting(full, Sizes::bytes_of_stage);
    if constexpr (kColumnsOfB) {
      for (int box = 0; box < kColumns / kHalf; ++box)
        copy_box(to + box * kDepth * kLine, b, full, at.column + box * kHalf, depth);
    } else {
      copy_box(to, b, full, depth, at.column);
    }
    constexpr uint16_t kBoth = 3;
    const int first = rank_ == 0 ? 0 : Sizes::first_rows;
    copy_box_to(kBoth, to + Sizes::bytes_of_b + first * kLine, a[rank_], full, depth,
                at.row + first);
    walk_.advance();
  }

 private:
  Shared shared_;
  int rank_;
  StageWalk walk_;
};

template <class T, class Sizes, bool kColumnsOfB>
__device__ void copy_tile(Copier<Sizes, kColumnsOfB>& copier, const ProductMaps& maps,
                          const ProductArgs<T>& p, Tile tile) {
  for (int s = 0; s < p.steps; ++s) copier.step(maps.b, maps.a, tile, s * kDepth);
  for (int i = 0; i < p.thins; ++i)
    if (touches(p, i, tile.column))
      for (int s = 0; s < p.thin[i].steps; ++s)
        copier.step(maps.thin_b[i], maps.thin_a[i], {tile.row, tile.column - p.thin[i].begin},
                    s * kDepth);
}

// --- multiplying ---------------------------------------------------------------------------------

// Of a tile: [half][...] of columns 64 half and on.
template <class Sizes>
using TileSums = float[2][Sizes::rows / 2];

template <class T, class Sizes, bool kColumnsOfB>
class Multiplier {
 public:
  __device__ Multiplier(const Shared& shared, int group)
      : shared_(shared),
        group_(group),
        b_(descriptor(shared.stages, kDepth * kLine)),
        a_(descriptor(shared.stages + Sizes::bytes_of_b, 0)) {}

  __device__ void skip(int steps) { walk_.skip(steps); }

  // sums (=) a tile's products, the thin ones that touch it too; frees the stages of both blocks
  // behind itself, and lets the other warpgroup multiply once its own products are issued.
  __device__ void multiply_tile(TileSums<Sizes>& sums, const ProductArgs<T>& p, int column) {
    adds_ = false;
    for (int s = 0; s < p.steps; ++s) step<kDepth>(sums);
    for (int i = 0; i < p.thins; ++i) {
      if (!touches(p, i, column)) continue;
      for (int s = 1; s < p.thin[i].steps; ++s) step<kDepth>(sums);
      if (p.thin[i].last_depth <= 16)
        step<16>(sums);
      else if (p.thin[i].last_depth <= 32)
        step<32>(sums);
      else
        step<kDepth>(sums);
    }
    if (threadIdx.x % 32 == 0) arrive(shared_.turn[1 - group_]);
    wait_products<0>();
    hold(sums);
    release(last_);
  }

 private:
  // Of the stage's depth, the first kUsed.
  template <int kUsed>
  __device__ void step(TileSums<Sizes>& sums) {
    wait(shared_.full[walk_.stage], walk_.parity);
    multiply_stage<kUsed>(sums);
    if (adds_) {
      wait_products<1>();
      release(last_);
    }
    adds_ = true;
    last_ = walk_.stage;
    walk_.advance();
  }
  template <int kUsed>
  __device__ void multiply_stage(TileSums<Sizes>& sums) {
    constexpr int kStepOfA = 32, kStepOfB = kColumnsOfB ? 16 * kLine : 32;  // bytes; of depth 16
    const uint32_t at = walk_.stage * (Sizes::bytes_of_stage / kUnit);
    begin_products();
#pragma unroll
    for (int i = 0; i < kUsed / 16; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        multiply<T, kColumnsOfB>(sums[half],
                                 b_ + at + (half * kHalf * kLine + i * kStepOfB) / kUnit,
                                 a_ + at + i * kStepOfA / kUnit, adds_ || i > 0);
    commit_products();
  }
  __device__ void release(int stage) {
    if (threadIdx.x % 128 < 2) arrive_at(shared_.empty[stage], threadIdx.x % 128);
  }

  Shared shared_;
  int group_;
  uint32_t b_, a_;  // descriptors, of the first stage
  StageWalk walk_;
  bool adds_ = false;  // not the tile's first step
  int last_ = 0;       // the stage that is being multiplied
};

// --- results -------------------------------------------------------------------------------------

// A warpgroup's tile on its way out: chunk after chunk through its slots, where the addend comes
// in. Nobody waits for it but the warpgroup itself.
template <class T, class Sizes>
class Sender {
 public:
  __device__ Sender(const Shared& shared, int group)
      : slots_(shared.slots + group * kSlots * Sizes::bytes_of_slot),
        added_(shared.added + group * kSlots),
        barrier_(1 + group) {}

  __device__ void send(const ProductMaps& maps, const ProductArgs<T>& p,
                       const TileSums<Sizes>& sums, Tile tile) {
    constexpr int kChunks = Sizes::rows / Sizes::chunk;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int column = tile.column + half * kHalf;
      const float2 bias = bias_of(p, column);
#pragma unroll
      for (int i = 0; i < kChunks; ++i) {
        const int which = (half * kChunks + i) % kSlots, row = tile.row + i * Sizes::chunk;
        uint8_t* const slot = slots_ + which * Sizes::bytes_of_slot;
        if (leads()) {
          wait_stores_read<kSlots - 1>();
          if (p.has_addend) {
            arrive_expecting(added_[which], Sizes::bytes_of_slot);
            copy_box(slot, maps.addend, added_[which], column, row);
          }
        }
        warpgroup_sync(barrier_);
        if (p.has_addend) {
          wait(added_[which], parities_ >> which & 1);
          parities_ ^= 1u << which;
          fill<true>(slot, sums[half], i, bias);
        } else {
          fill<false>(slot, sums[half], i, bias);
        }
        publish_shared();
        warpgroup_sync(barrier_);
        if (leads()) store_box(maps.c, slot, column, row);
      }
    }
  }
  __device__ void finish() const {
    if (leads()) wait_stores_read<0>();
  }

 private:
  __device__ static bool leads() {
    return threadIdx.x % 128 == 0;
  }

  // Of the lane's columns, l / 4 and 8 further, of the warp's 16.
  __device__ static float2 bias_of(const ProductArgs<T>& p, int column) {
    if (!p.bias) return {0, 0};
    const int first = column + threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4;
    const auto at = [&](int c) { return c < p.columns ? static_cast<float>(p.bias[c]) : 0.0f; };
    return {at(first), at(first + 8)};
  }

  // A chunk's lines are rows of c, 64 columns in pieces of 16 bytes, swizzled as the copies expect
  // it. The lane's sums lie in columns, so matrices of 8 x 8 go in and out transposed.
  template <bool kAdds>
  __device__ static void fill(uint8_t* slot, const float (&sums)[Sizes::rows / 2], int which,
                              float2 bias) {
    const int lane = threadIdx.x % 32, piece = threadIdx.x / 32 % 4 * 2 + lane / 8 % 2;
#pragma unroll
    for (int j = 0; j < Sizes::chunk / 8; ++j) {
      const int line = 8 * j + lane % 8;
      uint8_t* const at = slot + line * kLine + ((piece ^ (line & 7)) << 4);
      const float* const own = sums + (which * (Sizes::chunk / 8) + j) * 4;
      float2 near = {bias.x, bias.x}, far = {bias.y, bias.y};
      if constexpr (kAdds) {
        uint32_t added[2];
        load_transposed(added, at);
        near = mma::unpack<T>(added[0]);
        far = mma::unpack<T>(added[1]);
      }
      store_transposed(at, {mma::pack<T>(own[0] + near.x, own[1] + near.y),
                            mma::pack<T>(own[2] + far.x, own[3] + far.y)});
    }
  }

  uint8_t* slots_;
  uint64_t* added_;
  int barrier_;
  uint32_t parities_ = 0;  // of added_
};

// --- the kernel ----------------------------------------------------------------------------------

// Grid: an even number of blocks, at most one a multiprocessor. Block: kThreadsOfProduct threads.
template <class T, class Sizes, bool kColumnsOfB>
__global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(kThreadsOfProduct, 1)
    product_kernel(const __grid_constant__ ProductMaps maps,
                   const __grid_constant__ ProductArgs<T> p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ uint8_t raw[];
  const Shared shared = shared_of<Sizes>(raw);
  const int rank = static_cast<int>(cluster_rank());
  if (threadIdx.x == 0) init_barriers(shared);
  cluster_sync();
  wait_for_kernel_before();
  const TileWalk walk = TileWalk::of<Sizes>(p);
  const auto for_each_tile = [&](auto body) {
    for (int t = blockIdx.x / 2, turn = 0; t < walk.tiles(); t += gridDim.x / 2, ++turn)
      body(walk.template at<Sizes>(t, rank), turn);
  };
  if (threadIdx.x < 128) {
    give_registers<40>();
    if (threadIdx.x == 0) {
      Copier<Sizes, kColumnsOfB> copier(shared, rank);
      for_each_tile([&](Tile tile, int) { copy_tile(copier, maps, p, tile); });
    }
    __syncwarp();
  } else {
    take_registers<232>();
    const int group = static_cast<int>(threadIdx.x) / 128 - 1;
    Multiplier<T, Sizes, kColumnsOfB> multiplier(shared, group);
    Sender<T, Sizes> sender(shared, group);
    TileSums<Sizes> sums;
    for_each_tile([&](Tile tile, int turn) {
      if (turn % 2 != group) return multiplier.skip(steps_of(p, tile.column));
      if (turn > 0) wait(shared.turn[group], (turn - 1) / 2 & 1);
      multiplier.multiply_tile(sums, p, tile.column);
      sender.send(maps, p, sums, tile);
    });
    sender.finish();
  }
  cluster_sync();  // neither block leaves while the other copies to it or arrives at its barriers
#else
  __trap();  // sm_90a only; takes() sees to that
#endif
}

}  // namespace weft::ops::cuda::hopper
