// Partial sums of rows, added to a tensor in a fixed order.
#pragma once

#include "kernels/cuda/cuda.cuh"

namespace weft::ops::cuda {

constexpr int kColumns = 32, kSummers = 16;  // of a block

// out[width] += the partials' sum in a fixed order.
template <class G>
__global__ void add_partials_kernel(const float* partials, int64_t num_partials, int64_t width,
                                    G* out) {
  __shared__ float sums[kSummers][kColumns];
  wait_for_kernel_before();
  const int64_t column = int64_t{blockIdx.x} * kColumns + threadIdx.x;
  float sum = 0;
  if (column < width) {
#pragma unroll 8
    for (int64_t p = threadIdx.y; p < num_partials; p += kSummers)
      sum += partials[p * width + column];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= width) return;
  for (int y = 1; y < kSummers; ++y) sum += sums[y][threadIdx.x];
  out[column] = from_float<G>(to_float(out[column]) + sum);
}

// out += the sums of partials[count, width] (f32) over the rows; both on one GPU.
inline void add_partials(const Tensor& partials, const Tensor& out, cudaStream_t stream) {
  const int64_t width = partials.dim(1);
  dispatch(out.dtype(), [&](auto type) {
    using G = decltype(type);
    const auto blocks = static_cast<unsigned>(divide_up(width, kColumns));
    launch_behind(add_partials_kernel<G>, blocks, dim3(kColumns, kSummers), 0, stream,
                  pointer<const float>(partials), partials.dim(0), width, pointer<G>(out));
  });
}

}  // namespace weft::ops::cuda
