// The greatest of each row: parts of rows side by side, then the parts of a row by one warp. Ties
// go to the lowest place, so the order of comparing does not matter.
#include "core/ops/argmax.h"

#include "kernels/cuda/chunks.cuh"

namespace weft::ops::cuda {
namespace {

constexpr int64_t kPart = 4096;      // elements of a thread block: four chunks a thread
constexpr int kNowhere = INT32_MAX;  // the place of a part of NaNs

struct Best {
  float value;
  int place;
};

__device__ Best better(const Best& a, const Best& b) {
  if (a.value != b.value) return a.value > b.value ? a : b;
  return {a.value, min(a.place, b.place)};
}

// Lane 0 has the warp's.
__device__ Best best_of_warp(Best mine) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const Best other{__shfl_down_sync(0xffffffffu, mine.value, offset),
                     __shfl_down_sync(0xffffffffu, mine.place, offset)};
    mine = better(mine, other);
  }
  return mine;
}

// A NaN compares false with everything: it never replaces the best.
__device__ void look_at(Best& best, float value, int place) {
  if (value > best.value || (value == best.value && place < best.place)) best = {value, place};
}

__global__ void __launch_bounds__(kThreads)
    part_kernel(const float* x, Best* parts, int64_t width, unsigned parts_a_row) {
  __shared__ Best warps[kThreads / kWarp];
  const int64_t row = blockIdx.x / parts_a_row, part = blockIdx.x % parts_a_row;
  const int64_t begin = part * kPart, end = min(begin + kPart, width);
  const float* values = x + row * width;
  Best best{-INFINITY, kNowhere};
  if (is_aligned(values) && end - begin == kPart) {
    Chunk<float> chunks[kPart / (kThreads * kChunk<float>)];
#pragma unroll
    for (int k = 0; k < 4; ++k)
      chunks[k] = load_chunk<true>(values + begin + (k * kThreads + threadIdx.x) * kChunk<float>,
                                   kChunk<float>);
#pragma unroll
    for (int k = 0; k < 4; ++k)
#pragma unroll
      for (int j = 0; j < kChunk<float>; ++j)
        look_at(best, chunks[k].at[j],
                static_cast<int>(begin) + (k * kThreads + threadIdx.x) * kChunk<float> + j);
  } else {
    for (int64_t i = begin + threadIdx.x; i < end; i += kThreads)
      look_at(best, values[i], static_cast<int>(i));
  }
  best = best_of_warp(best);
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = best;
  __syncthreads();
  if (threadIdx.x >= kWarp) return;
  best = threadIdx.x < kThreads / kWarp ? warps[threadIdx.x] : Best{-INFINITY, kNowhere};
  best = best_of_warp(best);
  if (threadIdx.x == 0) parts[blockIdx.x] = best;
}

__global__ void row_kernel(const Best* parts, int32_t* out, unsigned parts_a_row) {
  const Best* row = parts + int64_t{blockIdx.x} * parts_a_row;
  Best best{-INFINITY, kNowhere};
  for (unsigned i = threadIdx.x; i < parts_a_row; i += kWarp) best = better(best, row[i]);
  best = best_of_warp(best);
  if (threadIdx.x == 0) out[blockIdx.x] = best.place == kNowhere ? 0 : best.place;
}

}  // namespace

void argmax(const Tensor& x_CV, const Tensor& out_C) {
  static_assert(kPart == 4 * kThreads * kChunk<float>);
  const int64_t rows = x_CV.dim(0), width = x_CV.dim(1), parts_a_row = divide_up(width, kPart);
  CHECK(rows * parts_a_row < (int64_t{1} << 31), "[argmax] {} rows of {}", rows, width);
  const cudaStream_t stream = stream_on(x_CV.device());
  const Tensor parts = Tensor::empty({rows * parts_a_row * static_cast<int64_t>(sizeof(Best))},
                                     DType::u8, x_CV.device(), MemoryTag::workspace);
  Best* of_parts = static_cast<Best*>(parts.raw());
  part_kernel<<<static_cast<unsigned>(rows * parts_a_row), kThreads, 0, stream>>>(
      pointer<const float>(x_CV), of_parts, width, static_cast<unsigned>(parts_a_row));
  row_kernel<<<static_cast<unsigned>(rows), kWarp, 0, stream>>>(of_parts, pointer<int32_t>(out_C),
                                                                static_cast<unsigned>(parts_a_row));
  check(cudaGetLastError(), "argmax");
}

}  // namespace weft::ops::cuda
