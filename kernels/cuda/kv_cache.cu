#include "core/ops/kv_cache.h"
#include "kernels/cuda/chunks.cuh"

namespace weft::ops::cuda {
namespace {

template <class T>
struct Store {
  T* qkv;
  const float* table;  // null: q and k are turned already
  const int32_t* rows;
  T* keys;
  T* values;
  int64_t tokens;
  unsigned half;  // of head_dim
  unsigned num_heads, num_kv_heads;
};

// The item's place in a cache, for a kv head.
template <class T>
__device__ T* cached(T* cache, const Store<T>& s, int64_t token, unsigned kv_head) {
  return cache + (int64_t{s.rows[token]} * s.num_kv_heads + kv_head) * 2 * s.half;
}

// An item is a chunk of a head's first half and its partner in the second (rope.cu): turned and
// stored in place for q, turned into the cache for k, and copied there for v.
template <bool kAligned, class T>
__global__ void rope_store_kernel(Store<T> s) {
  constexpr int kCount = kChunk<T>;
  const unsigned chunks = (s.half + kCount - 1) / kCount;
  const unsigned turned = s.num_heads + s.num_kv_heads, heads = turned + s.num_kv_heads;
  for (int64_t t = first_row(); t < s.tokens; t += row_stride())
    for (int64_t item = first_item(); item < int64_t{chunks} * heads; item += item_stride()) {
      const unsigned head = static_cast<unsigned>(item) / chunks;
      const unsigned i = (static_cast<unsigned>(item) - head * chunks) * kCount;
      const int64_t left = s.half - i;
      T* const at = s.qkv + (t * heads + head) * 2 * s.half + i;
      if (!s.table && head < s.num_heads) continue;
      T* to = at;
      if (head >= turned)
        to = cached(s.values, s, t, head - turned) + i;
      else if (head >= s.num_heads)
        to = cached(s.keys, s, t, head - s.num_heads) + i;
      float a[kCount], b[kCount];
      load_floats<kAligned>(a, at, left);
      load_floats<kAligned>(b, at + s.half, left);
      if (s.table && head < turned) {
        const float* turn = s.table + t * 2 * s.half + i;
        float cos[kCount], sin[kCount];
        load_floats<kAligned>(cos, turn, left);
        load_floats<kAligned>(sin, turn + s.half, left);
#pragma unroll
        for (int j = 0; j < kCount; ++j) {
          const float x = a[j], y = b[j];
          a[j] = x * cos[j] - y * sin[j];
          b[j] = y * cos[j] + x * sin[j];
        }
      }
      store_floats<kAligned>(to, a, left);
      store_floats<kAligned>(to + s.half, b, left);
    }
}

__global__ void advance_kernel(int32_t* positions, int32_t* rows, const int32_t* last_rows,
                               int64_t count) {
  for (int64_t b = first_item(); b < count; b += item_stride())
    if (rows[b] < last_rows[b]) {
      ++rows[b];
      ++positions[b];
    }
}

}  // namespace

void rope_store(const RopeStoreArgs& args) {
  const int64_t tokens = args.qkv.dim(0), half = args.keys.dim(1) / args.num_kv_heads / 2;
  if (tokens == 0 || half == 0) return;
  CHECK(args.qkv.dim(1) < (int64_t{1} << 31), "[rope_store] rows of {}", args.qkv.dim(1));
  const cudaStream_t stream = stream_on(args.qkv.device());
  dispatch(args.qkv.dtype(), [&](auto type) {
    using T = decltype(type);
    const Store<T> store{pointer<T>(args.qkv),
                         pointer<const float>(args.table),
                         pointer<const int32_t>(args.rows_T),
                         pointer<T>(args.keys),
                         pointer<T>(args.values),
                         tokens,
                         static_cast<unsigned>(half),
                         static_cast<unsigned>(args.num_heads),
                         static_cast<unsigned>(args.num_kv_heads)};
    const bool all_aligned = is_aligned(args.qkv.raw()) && is_aligned(store.table) &&
                             is_aligned(args.keys.raw()) && is_aligned(args.values.raw()) &&
                             half % kChunk<T> == 0;
    const RowGrid over =
        over_rows(tokens, divide_up(half, kChunk<T>) * (args.num_heads + 2 * args.num_kv_heads));
    with_alignment(all_aligned, [&](auto aligned) {
      rope_store_kernel<decltype(aligned)::value><<<over.grid, over.block, 0, stream>>>(store);
    });
  });
  check(cudaGetLastError(), "rope_store");
}

void advance(const CachePlaces& places) {
  const int64_t count = places.rows.dim(0);
  if (count == 0) return;
  advance_kernel<<<blocks_for(count), kThreads, 0, stream_on(places.rows.device())>>>(
      pointer<int32_t>(places.positions), pointer<int32_t>(places.rows),
      pointer<const int32_t>(places.last_rows), count);
  check(cudaGetLastError(), "advance");
}

}  // namespace weft::ops::cuda
