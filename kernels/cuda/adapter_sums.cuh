// The partial sums of adapters' thin products, added in their order: the same bits each time.
#pragma once

#include <algorithm>
#include <type_traits>

#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/tensor_core.cuh"

namespace weft::ops::cuda::adapter {

constexpr int kMostSums = 16;  // of a launch

// to[rows, ranks] (= or +=) scale * the sum over partials[count, rows, ranks].
struct Sum {
  const float* partials;
  void* to;  // element (row, rank) at row * row_stride + rank * rank_stride
  int64_t rows;
  int64_t row_stride = 1, rank_stride = 1;  // one of them is 1
  int count;
  int ranks;  // a multiple of 8
  float scale = 1;
  bool adds = false;
  bool is_f32 = false;  // else of the kernel's type
};

// Given to the kernel by value.
struct Sums {
  Sum of[kMostSums];
  int count = 0;

  void add(const Sum& sum) {
    CHECK(count < kMostSums, "[thin products] {} sums", count);
    of[count++] = sum;
  }
};

// Four elements of an output at `to`, as floats.
template <class G>
__device__ float4 load_four(const G* from) {
  if constexpr (std::is_same_v<G, float>) {
    return *reinterpret_cast<const float4*>(from);
  } else {
    const uint2 bits = *reinterpret_cast<const uint2*>(from);
    G at[4];
    memcpy(at, &bits, sizeof bits);
    return make_float4(to_float(at[0]), to_float(at[1]), to_float(at[2]), to_float(at[3]));
  }
}
template <class G>
__device__ void store_four(G* to, float4 v) {
  if constexpr (std::is_same_v<G, float>)
    *reinterpret_cast<float4*>(to) = v;
  else
    *reinterpret_cast<uint2*>(to) = make_uint2(mma::pack<G>(v.x, v.y), mma::pack<G>(v.z, v.w));
}

// a + scale * b.
__device__ inline float4 add_scaled(float4 a, float scale, float4 b) {
  return make_float4(fmaf(scale, b.x, a.x), fmaf(scale, b.y, a.y), fmaf(scale, b.z, a.z),
                     fmaf(scale, b.w, a.w));
}

// Four ranks of a row, which lie side by side or rank_stride apart.
template <class G>
__device__ void put_four(const Sum& s, G* to, float4 sum) {
  if (s.rank_stride == 1)
    return store_four(to, add_scaled(s.adds ? load_four(to) : float4{}, s.scale, sum));
  const float parts[4] = {sum.x, sum.y, sum.z, sum.w};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    G& at = to[j * s.rank_stride];
    at = from_float<G>(fmaf(s.scale, parts[j], s.adds ? to_float(at) : 0.0f));
  }
}

// The threads that share four elements: each adds every summers-th partial sum, four or more.
__host__ __device__ inline int summers_of(int num_partials) {
  return num_partials >= 32 ? 8 : num_partials >= 16 ? 4 : num_partials >= 8 ? 2 : 1;
}

// y = which sum.
template <class T>
__global__ void __launch_bounds__(kThreads) add_sums_kernel(const __grid_constant__ Sums all) {
  __shared__ float4 sums[kThreads];
  wait_for_kernel_before();
  const Sum& s = all.of[blockIdx.y];
  const int summers = summers_of(s.count);
  const int64_t numel = s.rows * s.ranks;
  const int lanes = kThreads / summers, summer = threadIdx.x / lanes;
  const int64_t at = (int64_t{blockIdx.x} * lanes + threadIdx.x % lanes) * 4;
  if (int64_t{blockIdx.x} * lanes * 4 >= numel) return;
  float4 sum{};
  if (at < numel) {
#pragma unroll 4
    for (int i = summer; i < s.count; i += summers)
      sum = add_scaled(sum, 1, load_four(s.partials + at + i * numel));
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (summer != 0 || at >= numel) return;
  for (int i = 1; i < summers; ++i) sum = add_scaled(sum, 1, sums[i * lanes + threadIdx.x]);
  const int64_t place = at / s.ranks * s.row_stride + at % s.ranks * s.rank_stride;
  s.is_f32 ? put_four(s, static_cast<float*>(s.to) + place, sum)
           : put_four(s, static_cast<T*>(s.to) + place, sum);
}

template <class T>
void add_sums(const Sums& sums, cudaStream_t stream) {
  int64_t most = 0;  // blocks
  for (int i = 0; i < sums.count; ++i) {
    const Sum& s = sums.of[i];
    most = std::max(most, divide_up(s.rows * s.ranks * summers_of(s.count), 4 * kThreads));
  }
  if (most == 0) return;
  const dim3 grid(static_cast<unsigned>(most), static_cast<unsigned>(sums.count));
  launch_behind(add_sums_kernel<T>, grid, kThreads, 0, stream, sums);
  check(cudaGetLastError(), "adapter_gradients: sums");
}

}  // namespace weft::ops::cuda::adapter
