// Accesses of several elements at once, and the loops that use them: over a flat range, and over
// the rows of a view. Tensors need to be aligned to their elements only; what is aligned alike is
// moved 16 bytes at a time.
#pragma once

#include <algorithm>
#include <type_traits>

#include "kernels/cuda/cuda.cuh"

namespace weft::ops::cuda {

// N elements that lie side by side. N is a power of two.
template <class T, int N>
struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Pack {
  T at[N];
};

// Elements of a pack: the widest of the types fills 16 bytes.
template <class... T>
constexpr int kPackOf = 16 / static_cast<int>(std::max({sizeof(T)...}));

// REQUIRES: p is aligned to the pack.
template <int N, class T>
__device__ inline Pack<T, N> load_pack(const T* p) {
  return *reinterpret_cast<const Pack<T, N>*>(p);
}
template <int N, class T>
__device__ inline void store_pack(T* p, const Pack<T, N>& pack) {
  *reinterpret_cast<Pack<T, N>*>(p) = pack;
}
// The same elements from anywhere, for sums whose order must not depend on alignment.
template <int N, class T>
__device__ inline Pack<T, N> load_pack(const T* p, bool aligned) {
  if (aligned) return load_pack<N>(p);
  Pack<T, N> pack;
#pragma unroll
  for (int k = 0; k < N; ++k) pack.at[k] = p[k];
  return pack;
}

template <int N, class T>
__host__ __device__ inline bool is_aligned(const T* p) {
  return reinterpret_cast<uintptr_t>(p) % alignof(Pack<T, N>) == 0;
}

// Elements [0, n) as `head` single ones, `packs` aligned packs, and single ones again.
struct FlatPlan {
  int64_t n = 0;
  int64_t head = 0;
  int64_t packs = 0;
};

// For arrays that are walked in step; no packs where their alignments differ.
template <int N, class First, class... Rest>
FlatPlan plan_flat(int64_t n, const First* first, const Rest*... rest) {
  const auto past_boundary = [](auto* p) {
    return static_cast<int64_t>(reinterpret_cast<uintptr_t>(p) / sizeof(*p) % N);
  };
  const int64_t past = past_boundary(first);
  if (((past_boundary(rest) != past) || ...)) return {n, n, 0};
  const int64_t head = std::min(n, (N - past) % N);
  return {n, head, (n - head) / N};
}

// Blocks of a kernel that walks a plan, each thread `packs_a_thread` packs or more.
inline unsigned blocks_of(const FlatPlan& plan, int packs_a_thread) {
  const int64_t threads = divide_up(plan.packs, packs_a_thread);
  return blocks_for(std::max(threads, plan.n - plan.packs));
}

// f(i) for the elements of a plan that are in no pack, by the whole grid.
template <int N, class F>
__device__ inline void for_each_single(const FlatPlan& plan, const F& f) {
  const int64_t packed = plan.packs * N, stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t s = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; s < plan.n - packed; s += stride)
    f(s < plan.head ? s : s + packed);
}

// A grid over rows (x) and the units of a row (y) without a division on the GPU.
struct RowGrid {
  dim3 blocks;
  dim3 threads;
};
inline RowGrid row_grid(int64_t rows, int64_t units, int rows_a_thread = 1) {
  unsigned across = 1;
  while (across < units && across < kThreads) across *= 2;
  const unsigned down = kThreads / across;
  const auto clamped = [](int64_t blocks, int64_t most) {
    return static_cast<unsigned>(std::clamp<int64_t>(blocks, 1, most));
  };
  return {dim3(clamped(divide_up(rows, int64_t{down} * rows_a_thread), 1 << 20),
               clamped(divide_up(units, across), 65535)),
          dim3(across, down)};
}
// Where a thread of a RowGrid begins and how far it steps.
struct RowWalk {
  int64_t row, row_step, unit, unit_step;
};
__device__ inline RowWalk row_walk() {
  return {int64_t{blockIdx.x} * blockDim.y + threadIdx.y, int64_t{gridDim.x} * blockDim.y,
          int64_t{blockIdx.y} * blockDim.x + threadIdx.x, int64_t{gridDim.y} * blockDim.x};
}

}  // namespace weft::ops::cuda
