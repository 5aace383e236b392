// Accesses of several elements at once, and the grids of loops that use them: over a flat range,
// and over rows. Tensors need to be aligned to their elements only. In a row a thread takes whole
// chunks, counted from its start, so what it sums depends on the shape only; where rows are aligned
// a chunk is one load, elsewhere it is read by elements.
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

// The pack of 16 bytes. Of several types: where the widest fills them.
template <class... T>
constexpr int kChunk = 16 / static_cast<int>(std::max({sizeof(T)...}));  // elements
template <class T>
using Chunk = Pack<T, kChunk<T>>;

// Whether a pack of N elements can begin at p.
template <int N, class T>
__host__ __device__ inline bool is_aligned(const T* p) {
  return reinterpret_cast<uintptr_t>(p) % alignof(Pack<T, N>) == 0;
}
// Whether a chunk can.
__host__ __device__ inline bool is_aligned(const void* p) {
  return reinterpret_cast<uintptr_t>(p) % 16 == 0;
}

// In one access: of a plain store the compiler makes four where the words come in any order.
__device__ inline void store_16_bytes(void* to, const uint4& v) {
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)),
               "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
               : "memory");
}

// In global memory. REQUIRES: p is aligned to the pack. Chunks go as uint4: of a struct the
// compiler may make several accesses.
template <int N, class T>
__device__ inline Pack<T, N> load_pack(const T* p) {
  Pack<T, N> pack;
  if constexpr (sizeof(pack) == 16)
    *reinterpret_cast<uint4*>(&pack) = *reinterpret_cast<const uint4*>(p);
  else
    pack = *reinterpret_cast<const Pack<T, N>*>(p);
  return pack;
}
template <int N, class T>
__device__ inline void store_pack(T* p, const Pack<T, N>& pack) {
  if constexpr (sizeof(pack) == 16)
    store_16_bytes(p, *reinterpret_cast<const uint4*>(&pack));
  else
    *reinterpret_cast<Pack<T, N>*>(p) = pack;
}

// A chunk's elements as floats, and back. Words are taken apart here, as the compiler moves each
// half of them on its own.
template <class T>
__device__ inline void to_floats(float (&to)[kChunk<T>], const Chunk<T>& chunk) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    const uint4 packed = *reinterpret_cast<const uint4*>(&chunk);
    const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      to[2 * j] = __uint_as_float(words[j] << 16);
      to[2 * j + 1] = __uint_as_float(words[j] & 0xffff0000u);
    }
  } else {
#pragma unroll
    for (int j = 0; j < kChunk<T>; ++j) to[j] = to_float(chunk.at[j]);
  }
}
template <class T>
__device__ inline Chunk<T> to_chunk(const float (&from)[kChunk<T>]) {
  Chunk<T> chunk;
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    auto* pairs = reinterpret_cast<__nv_bfloat162*>(&chunk);
#pragma unroll
    for (int j = 0; j < 4; ++j) pairs[j] = __floats2bfloat162_rn(from[2 * j], from[2 * j + 1]);
  } else {
#pragma unroll
    for (int j = 0; j < kChunk<T>; ++j) chunk.at[j] = from_float<T>(from[j]);
  }
  return chunk;
}

// The `left` elements from anywhere on, at most N; 0 behind them.
template <int N, class T>
__device__ inline Pack<T, N> load_pack(const T* from, int64_t left) {
  Pack<T, N> pack;
#pragma unroll
  for (int j = 0; j < N; ++j) pack.at[j] = j < left ? from[j] : from_float<T>(0.0f);
  return pack;
}
template <int N, class T>
__device__ inline void store_pack(T* to, const Pack<T, N>& pack, int64_t left) {
#pragma unroll
  for (int j = 0; j < N; ++j)
    if (j < left) to[j] = pack.at[j];
}

// Calls f(std::true_type()) or f(std::false_type()): a kernel's template argument.
template <class F>
void with_alignment(bool aligned, F&& f) {
  if (aligned)
    f(std::true_type());
  else
    f(std::false_type());
}

// The `left` elements from `from` on, at most a chunk; 0 behind them. kAligned: `from` is aligned
// to 16 bytes and the chunk is whole.
template <bool kAligned, class T>
__device__ inline Chunk<T> load_chunk(const T* from, int64_t left) {
  if constexpr (kAligned)
    return load_pack<kChunk<T>>(from);
  else
    return load_pack<kChunk<T>>(from, left);
}
template <bool kAligned, class T>
__device__ inline void store_chunk(T* to, const Chunk<T>& chunk, int64_t left) {
  if constexpr (kAligned)
    store_pack(to, chunk);
  else
    store_pack(to, chunk, left);
}

// As above for kCount elements, a multiple of T's chunk, as floats.
template <bool kAligned, int kCount, class T>
__device__ void load_floats(float (&to)[kCount], const T* from, int64_t left) {
  static_assert(kCount % kChunk<T> == 0);
#pragma unroll
  for (int i = 0; i < kCount; i += kChunk<T>) {
    float part[kChunk<T>];
    to_floats<T>(part, load_chunk<kAligned>(from + i, left - i));
#pragma unroll
    for (int j = 0; j < kChunk<T>; ++j) to[i + j] = part[j];
  }
}
template <bool kAligned, int kCount, class T>
__device__ void store_floats(T* to, const float (&from)[kCount], int64_t left) {
  static_assert(kCount % kChunk<T> == 0);
#pragma unroll
  for (int i = 0; i < kCount; i += kChunk<T>) {
    float part[kChunk<T>];
#pragma unroll
    for (int j = 0; j < kChunk<T>; ++j) part[j] = from[i + j];
    store_chunk<kAligned>(to + i, to_chunk<T>(part), left - i);
  }
}

// A grid over rows (y) and the items of a row (x): kThreads threads a block, several rows in it
// where rows are short. Kernels stride by the grid in both directions.
struct RowGrid {
  dim3 grid, block;
};
inline RowGrid over_rows(int64_t rows, int64_t items, int64_t rows_a_thread = 1) {
  unsigned across = 1;
  while (across < kThreads && across < items) across *= 2;
  const unsigned down = kThreads / across;
  return {dim3(blocks_for(items, across), blocks_for(rows, down * rows_a_thread)),
          dim3(across, down)};
}
__device__ inline int64_t first_row() {
  return int64_t{blockIdx.y} * blockDim.y + threadIdx.y;
}
__device__ inline int64_t row_stride() {
  return int64_t{gridDim.y} * blockDim.y;
}
__device__ inline int64_t first_item() {
  return int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
}
__device__ inline int64_t item_stride() {
  return int64_t{gridDim.x} * blockDim.x;
}

// Elements [0, n) as `head` single ones, `packs` aligned packs, and single ones again.
struct FlatPlan {
  int64_t n = 0;
  int64_t head = 0;
  int64_t packs = 0;
};

// For arrays that are walked in step; no packs where their alignments differ.
template <int N, class First, class... Rest>
__host__ __device__ inline FlatPlan plan_flat(int64_t n, const First* first, const Rest*... rest) {
  const auto past_boundary = [](auto* p) {
    return static_cast<int64_t>(reinterpret_cast<uintptr_t>(p) / sizeof(*p) % N);
  };
  const int64_t past = past_boundary(first);
  if (((past_boundary(rest) != past) || ...)) return {n, n, 0};
  const int64_t to_boundary = (N - past) % N;
  const int64_t head = to_boundary < n ? to_boundary : n;
  return {n, head, (n - head) / N};
}

// Blocks of a kernel that walks a plan, each thread `packs_a_thread` packs or more.
template <int N>
unsigned blocks_of(const FlatPlan& plan, int packs_a_thread) {
  const int64_t threads = divide_up(plan.packs, packs_a_thread);
  return blocks_for(std::max(threads, plan.n - plan.packs * N));
}

// The elements of a plan that are in no pack: how many, and which is the s-th.
template <int N>
__host__ __device__ inline int64_t count_singles(const FlatPlan& plan) {
  return plan.n - plan.packs * N;
}
template <int N>
__device__ inline int64_t single_at(const FlatPlan& plan, int64_t s) {
  return s < plan.head ? s : s + plan.packs * N;
}

// f(i) for each of them, by the whole grid.
template <int N, class F>
__device__ inline void for_each_single(const FlatPlan& plan, const F& f) {
  for (int64_t s = first_item(); s < count_singles<N>(plan); s += item_stride())
    f(single_at<N>(plan, s));
}

}  // namespace weft::ops::cuda
