#include "core/ops/swiglu.h"
#include "kernels/cuda/cuda.cuh"

namespace weft::ops::cuda {
namespace {

template <class T>
__global__ void swiglu_kernel(const T* gate_up, T* y, int64_t rows, int64_t width) {
  const int64_t count = rows * width, stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    const T* gate = gate_up + i / width * 2 * width + i % width;
    const float g = to_float(gate[0]);
    y[i] = from_float<T>(g / (1.0f + expf(-g)) * to_float(gate[width]));
  }
}

// silu'(g) = s (1 + g (1 - s)) with s the sigmoid of g.
template <class T>
__global__ void swiglu_backward_kernel(const T* dy, const T* gate_up, T* dgate_up, int64_t rows,
                                       int64_t width) {
  const int64_t count = rows * width, stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    const int64_t at = i / width * 2 * width + i % width;
    const float g = to_float(gate_up[at]), d = to_float(dy[i]);
    const float s = 1.0f / (1.0f + expf(-g));
    dgate_up[at] = from_float<T>(d * to_float(gate_up[at + width]) * (s * (1.0f + g * (1.0f - s))));
    dgate_up[at + width] = from_float<T>(d * (g * s));
  }
}

}  // namespace

void swiglu(const Tensor& gate_up_T2F, const Tensor& y_TF) {
  if (y_TF.numel() == 0) return;
  const cudaStream_t stream = stream_on(y_TF.device());
  dispatch(y_TF.dtype(), [&](auto type) {
    using T = decltype(type);
    swiglu_kernel<<<blocks_for(y_TF.numel()), kThreads, 0, stream>>>(
        pointer<T>(gate_up_T2F), pointer<T>(y_TF), y_TF.dim(0), y_TF.dim(1));
  });
  check(cudaGetLastError(), "swiglu");
}

void swiglu_backward(const Tensor& dy_TF, const Tensor& gate_up_T2F, const Tensor& dgate_up_T2F) {
  if (dy_TF.numel() == 0) return;
  const cudaStream_t stream = stream_on(dy_TF.device());
  dispatch(dy_TF.dtype(), [&](auto type) {
    using T = decltype(type);
    swiglu_backward_kernel<<<blocks_for(dy_TF.numel()), kThreads, 0, stream>>>(
        pointer<T>(dy_TF), pointer<T>(gate_up_T2F), pointer<T>(dgate_up_T2F), dy_TF.dim(0),
        dy_TF.dim(1));
  });
  check(cudaGetLastError(), "swiglu_backward");
}

}  // namespace weft::ops::cuda
