// What the GPU kernels share: types, launches, sums in a fixed order. Kernels run on the compute
// stream of their tensors' GPU and never wait for it.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <array>
#include <atomic>
#include <cstdint>

#include "core/base/error.h"
#include "core/tensor/device_memory.h"
#include "core/tensor/tensor.h"

namespace weft::ops::cuda {

inline void check(cudaError_t status, const char* op) {
  if (status != cudaSuccess)
    fail(ErrorKind::unavailable, "[{}] the GPU reports: {}", op, cudaGetErrorString(status));
}

// Makes the device current and returns its compute stream.
inline cudaStream_t stream_on(Device device) {
  check(cudaSetDevice(device.index), "choosing a GPU");
  return static_cast<cudaStream_t>(device_memory::stream(device.index));
}

constexpr int kWarp = 32;
constexpr int kThreads = 256;  // of a block, unless a kernel says otherwise
constexpr int kSms = 132;  // that a launch is made for where its bits must not depend on the GPU

inline int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
// Blocks of a loop that strides over `count` items by the whole grid (at least 1).
inline unsigned blocks_for(int64_t count, int64_t per_block = kThreads) {
  const int64_t blocks = divide_up(count, per_block);
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks > 65535 ? 65535 : blocks);
}

// Whether a kernel may take its place while the one before it ends: from 9.0 on.
inline bool kernels_overlap() {
  static std::array<std::atomic<int8_t>, 64> known{};  // 0: not yet
  int gpu = 0, major = 0;
  check(cudaGetDevice(&gpu), "asking for the GPU");
  std::atomic<int8_t>& of_gpu = known.at(static_cast<size_t>(gpu));
  if (of_gpu == 0) {
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, gpu), "asking a GPU");
    of_gpu = major >= 9 ? 1 : -1;
  }
  return of_gpu > 0;
}

// Launches a kernel that touches no memory before wait_for_kernel_before(). Its blocks take their
// places while the last blocks of the kernel before it on the stream finish.
template <class... P, class... A>
void launch_behind(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, const A&... args) {
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &overlap;
  config.numAttrs = kernels_overlap() ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...), "launching a kernel");
}

// Before a thread reads or writes memory that the kernel before may write or read: waits for its
// end. The kernel behind may take its place from here on.
__device__ inline void wait_for_kernel_before() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\ngriddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Calls f(T()) with the GPU's type of a float dtype: float, __nv_bfloat16 or __half.
template <class F>
void dispatch(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f(float());
    case DType::bf16:
      return f(__nv_bfloat16());
    case DType::f16:
      return f(__half());
    default:
      fail(ErrorKind::internal, "{} on a GPU", name_of(dtype));
  }
}

template <class T>
T* pointer(const Tensor& t) {
  return t.defined() ? static_cast<T*>(t.raw()) : nullptr;
}

__device__ inline float to_float(float x) {
  return x;
}
__device__ inline float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
__device__ inline float to_float(__half x) {
  return __half2float(x);
}
template <class T>
__device__ T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ inline __half from_float<__half>(float x) {
  return __float2half_rn(x);
}

// Sum over the block, the same order always; every thread has it. Block: at most 1024 threads, a
// multiple of 32. `scratch` holds 32 values of shared memory and may be reused on return.
template <class V>
__device__ inline V block_sum(V value, V* scratch) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int warps = blockDim.x / kWarp;
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  V total = lane < warps ? scratch[lane] : V(0);
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    total += __shfl_xor_sync(0xffffffffu, total, offset);
  __syncthreads();
  return total;
}

}  // namespace weft::ops::cuda
