#include "core/ops/swiglu.h"
#include "kernels/cuda/chunks.cuh"
#include "kernels/cuda/swiglu.cuh"

namespace weft::ops::cuda {
namespace {

template <bool kAligned, class T>
__global__ void swiglu_kernel(const T* gate_up, T* y, int64_t rows, int64_t width) {
  constexpr int kCount = kChunk<T>;
  wait_for_kernel_before();
  for (int64_t t = first_row(); t < rows; t += row_stride())
    for (int64_t i = first_item() * kCount; i < width; i += item_stride() * kCount) {
      const T* at = gate_up + t * 2 * width + i;
      float gate[kCount], up[kCount];
      load_floats<kAligned>(gate, at, width - i);
      load_floats<kAligned>(up, at + width, width - i);
#pragma unroll
      for (int j = 0; j < kCount; ++j) up[j] *= gate[j] * sigmoid<T>(gate[j]);
      store_floats<kAligned>(y + t * width + i, up, width - i);
    }
}

template <bool kAligned, class T>
__global__ void swiglu_backward_kernel(const T* dy, T* gate_up, int64_t rows, int64_t width) {
  constexpr int kCount = kChunk<T>;
  wait_for_kernel_before();
  for (int64_t t = first_row(); t < rows; t += row_stride())
    for (int64_t i = first_item() * kCount; i < width; i += item_stride() * kCount) {
      const int64_t at = t * 2 * width + i, left = width - i;
      float gate[kCount], up[kCount], d[kCount];
      load_floats<kAligned>(gate, gate_up + at, left);
      load_floats<kAligned>(up, gate_up + at + width, left);
      load_floats<kAligned>(d, dy + t * width + i, left);
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        const SwigluGradient dx = swiglu_gradient(gate[j], up[j], sigmoid<T>(gate[j]), d[j]);
        gate[j] = dx.gate;
        up[j] = dx.up;
      }
      store_floats<kAligned>(gate_up + at, gate, left);
      store_floats<kAligned>(gate_up + at + width, up, left);
    }
}

template <class T>
bool rows_are_aligned(const Tensor& narrow_TF, const Tensor& wide_T2F) {
  return narrow_TF.dim(1) % kChunk<T> == 0 && is_aligned(narrow_TF.raw()) &&
         is_aligned(wide_T2F.raw());
}

}  // namespace

void swiglu(const Tensor& gate_up_T2F, const Tensor& y_TF) {
  if (y_TF.numel() == 0) return;
  const cudaStream_t stream = stream_on(y_TF.device());
  const int64_t rows = y_TF.dim(0), width = y_TF.dim(1);
  dispatch(y_TF.dtype(), [&](auto type) {
    using T = decltype(type);
    const RowGrid over = over_rows(rows, divide_up(width, kChunk<T>));
    with_alignment(rows_are_aligned<T>(y_TF, gate_up_T2F), [&](auto aligned) {
      launch_behind(swiglu_kernel<decltype(aligned)::value, T>, over.grid, over.block, 0, stream,
                    pointer<const T>(gate_up_T2F), pointer<T>(y_TF), rows, width);
    });
  });
  check(cudaGetLastError(), "swiglu");
}

void swiglu_backward(const Tensor& dy_TF, const Tensor& gate_up_T2F) {
  if (dy_TF.numel() == 0) return;
  const cudaStream_t stream = stream_on(dy_TF.device());
  const int64_t rows = dy_TF.dim(0), width = dy_TF.dim(1);
  dispatch(dy_TF.dtype(), [&](auto type) {
    using T = decltype(type);
    const RowGrid over = over_rows(rows, divide_up(width, kChunk<T>));
    with_alignment(rows_are_aligned<T>(dy_TF, gate_up_T2F), [&](auto aligned) {
      launch_behind(swiglu_backward_kernel<decltype(aligned)::value, T>, over.grid, over.block, 0,
                    stream, pointer<const T>(dy_TF), pointer<T>(gate_up_T2F), rows, width);
    });
  });
  check(cudaGetLastError(), "swiglu_backward");
}

}  // namespace weft::ops::cuda
