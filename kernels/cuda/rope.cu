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

template <class T>
struct Rotation {
  T* x;
  const float* table;
  int64_t tokens, row_width;
  unsigned half, num_heads;
  float sign;  // -1: the inverse
};

// (a, b) turns by the angle: (a cos - b sin, b cos + a sin). An item is a chunk of a head's first
// half and its partner in the second.
template <bool kAligned, class T>
__global__ void rope_kernel(Rotation<T> r) {
  constexpr int kCount = kChunk<T>;
  const unsigned chunks = (r.half + kCount - 1) / kCount, items = chunks * r.num_heads;
  for (int64_t t = first_row(); t < r.tokens; t += row_stride())
    for (int64_t item = first_item(); item < items; item += item_stride()) {
      const unsigned head = static_cast<unsigned>(item) / chunks;
      const unsigned i = (static_cast<unsigned>(item) - head * chunks) * kCount;
      const int64_t left = r.half - i;
      T* at = r.x + t * r.row_width + int64_t{head} * 2 * r.half + i;
      const float* turn = r.table + t * 2 * r.half + i;
      float a[kCount], b[kCount], cos[kCount], sin[kCount];
      load_floats<kAligned>(a, at, left);
      load_floats<kAligned>(b, at + r.half, left);
      load_floats<kAligned>(cos, turn, left);
      load_floats<kAligned>(sin, turn + r.half, left);
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        const float x = a[j], y = b[j], s = r.sign * sin[j];
        a[j] = x * cos[j] - y * s;
        b[j] = y * cos[j] + x * s;
      }
      store_floats<kAligned>(at, a, left);
      store_floats<kAligned>(at + r.half, b, left);
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
  CHECK(row_width < (int64_t{1} << 31), "[rope] rows of {}", row_width);
  const cudaStream_t stream = stream_on(args.x.device());
  dispatch(args.x.dtype(), [&](auto type) {
    using T = decltype(type);
    const Rotation<T> rotation{pointer<T>(args.x),
                               pointer<const float>(args.table),
                               tokens,
                               row_width,
                               static_cast<unsigned>(half),
                               static_cast<unsigned>(args.num_heads),
                               args.inverse ? -1.0f : 1.0f};
    const bool all_aligned = is_aligned(args.x.raw()) && is_aligned(args.table.raw()) &&
                             half % kChunk<T> == 0 && row_width % kChunk<T> == 0;
    const RowGrid over = over_rows(tokens, divide_up(half, kChunk<T>) * args.num_heads);
    with_alignment(all_aligned, [&](auto aligned) {
      rope_kernel<decltype(aligned)::value><<<over.grid, over.block, 0, stream>>>(rotation);
    });
  });
  check(cudaGetLastError(), "rope");
}

}  // namespace weft::ops::cuda
