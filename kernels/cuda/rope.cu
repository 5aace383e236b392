#include "core/ops/rope.h"

#include "kernels/cuda/chunks.cuh"

namespace weft::ops::cuda {
namespace {

__global__ void rope_table_kernel(const int32_t* positions, const float* inv_freq, float* table,
                                  int64_t tokens, int64_t half) {
  for (int64_t t = first_row(); t < tokens; t += row_stride())
    for (int64_t i = first_item(); i < half; i += item_stride()) {
      const float angle = __fmul_rn(static_cast<float>(positions[t]), inv_freq[i]);
      float sin, cos;
      sincosf(angle, &sin, &cos);
      table[t * 2 * half + i] = cos;
      table[t * 2 * half + half + i] = sin;
    }
}

constexpr int kHeads = 4;  // that a thread turns by the angles it has loaded

template <class T>
struct Rotation {
  T* x;
  const float* table;
  int64_t row_width;
  unsigned half, num_heads;
  unsigned chunks, groups;  // of a half; of heads
  unsigned items;           // of all tokens
  float sign;               // -1: the inverse
};

// (a, b) turns by the angle: (a cos - b sin, b cos + a sin). An item is a chunk of the first half
// and its partner in the second, of kHeads heads.
template <bool kAligned, class T>
__global__ void rope_kernel(Rotation<T> r) {
  constexpr int kCount = kChunk<T>;
  wait_for_kernel_before();
  for (unsigned n = static_cast<unsigned>(first_item()); n < r.items;
       n += static_cast<unsigned>(item_stride())) {
    const unsigned row_of_groups = n / r.chunks, t = row_of_groups / r.groups;
    const unsigned i = (n - row_of_groups * r.chunks) * kCount;
    const unsigned group = row_of_groups - t * r.groups;
    const int64_t left = r.half - i;
    T* const row = r.x + t * r.row_width + i;
    const float* const turn = r.table + int64_t{t} * 2 * r.half + i;
    const auto at = [&](int k) { return row + int64_t{group + k * r.groups} * 2 * r.half; };
    Chunk<T> first[kHeads], second[kHeads];
#pragma unroll
    for (int k = 0; k < kHeads; ++k) {
      if (group + k * r.groups >= r.num_heads) continue;
      first[k] = load_chunk<kAligned>(at(k), left);
      second[k] = load_chunk<kAligned>(at(k) + r.half, left);
    }
    float cos[kCount], sin[kCount];
    load_floats<kAligned>(cos, turn, left);
    load_floats<kAligned>(sin, turn + r.half, left);
#pragma unroll
    for (int j = 0; j < kCount; ++j) sin[j] *= r.sign;
#pragma unroll
    for (int k = 0; k < kHeads; ++k) {
      if (group + k * r.groups >= r.num_heads) continue;
      float a[kCount], b[kCount];
      to_floats<T>(a, first[k]);
      to_floats<T>(b, second[k]);
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        const float x = a[j], y = b[j];
        a[j] = x * cos[j] - y * sin[j];
        b[j] = y * cos[j] + x * sin[j];
      }
      store_floats<kAligned>(at(k), a, left);
      store_floats<kAligned>(at(k) + r.half, b, left);
    }
  }
}

}  // namespace

void rope_table(const Tensor& positions_T, const Tensor& inv_freq, const Tensor& table) {
  if (table.numel() == 0) return;
  const int64_t tokens = positions_T.dim(0), half = inv_freq.dim(0);
  const RowGrid over = over_rows(tokens, half);
  rope_table_kernel<<<over.grid, over.block, 0, stream_on(table.device())>>>(
      pointer<const int32_t>(positions_T), pointer<const float>(inv_freq), pointer<float>(table),
      tokens, half);
  check(cudaGetLastError(), "rope_table");
}

void rope(const RopeArgs& args) {
  const int64_t tokens = args.x.dim(0), row_width = args.x.dim(1), half = args.table.dim(1) / 2;
  if (tokens == 0 || half == 0 || args.num_heads == 0) return;
  const cudaStream_t stream = stream_on(args.x.device());
  dispatch(args.x.dtype(), [&](auto type) {
    using T = decltype(type);
    const int64_t chunks = divide_up(half, kChunk<T>), groups = divide_up(args.num_heads, kHeads);
    const int64_t items = tokens * groups * chunks;
    CHECK(items < (int64_t{1} << 31), "[rope] {} tokens of {} heads", tokens, args.num_heads);
    const Rotation<T> rotation{.x = pointer<T>(args.x),
                               .table = pointer<const float>(args.table),
                               .row_width = row_width,
                               .half = static_cast<unsigned>(half),
                               .num_heads = static_cast<unsigned>(args.num_heads),
                               .chunks = static_cast<unsigned>(chunks),
                               .groups = static_cast<unsigned>(groups),
                               .items = static_cast<unsigned>(items),
                               .sign = args.inverse ? -1.0f : 1.0f};
    const bool all_aligned = is_aligned(args.x.raw()) && is_aligned(args.table.raw()) &&
                             half % kChunk<T> == 0 && row_width % kChunk<T> == 0;
    with_alignment(all_aligned, [&](auto aligned) {
      launch_behind(rope_kernel<decltype(aligned)::value, T>, blocks_for(items), kThreads, 0,
                    stream, rotation);
    });
  });
  check(cudaGetLastError(), "rope");
}

}  // namespace weft::ops::cuda
