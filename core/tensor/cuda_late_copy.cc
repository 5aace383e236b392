#include <cuda_runtime.h>

#include "core/tensor/device_memory.h"
#include "core/tensor/late_copy.h"

namespace weft {
namespace {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  fail(ErrorKind::unavailable, "[late copy] {}: {} ({})", what, cudaGetErrorString(status),
       cudaGetErrorName(status));
}

}  // namespace

LateCopy::LateCopy(const Shape& shape, DType dtype, Device source) {
  if (source.is_cpu()) {
    host_ = Tensor::empty(shape, dtype);
    return;
  }
  check(cudaSetDevice(source.index), "choosing a GPU");
  void* pinned = nullptr;
  const size_t bytes = static_cast<size_t>(shape.numel()) * size_of(dtype);
  check(cudaMallocHost(&pinned, bytes > 0 ? bytes : 1), "taking pinned memory");
  const std::shared_ptr<void> owner(pinned, [](void* p) { cudaFreeHost(p); });
  host_ = Tensor::wrap(pinned, shape, dtype, owner);
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
  // A copy may still be under way when this goes: its memory must not go before.
  arrived_ = std::shared_ptr<void>(event, [owner](void* e) {
    cudaEventSynchronize(static_cast<cudaEvent_t>(e));
    cudaEventDestroy(static_cast<cudaEvent_t>(e));
  });
}

void LateCopy::start(const Tensor& source) {
  CHECK(source.shape() == host_.shape() && source.dtype() == host_.dtype(), "{} {} into {} {}",
        name_of(source.dtype()), source.shape().to_string(), name_of(host_.dtype()),
        host_.shape().to_string());
  if (!arrived_) return host_.copy_from(source);
  const int gpu = source.device().index;
  check(cudaSetDevice(gpu), "choosing a GPU");
  const auto stream = static_cast<cudaStream_t>(device_memory::stream(gpu));
  check(cudaMemcpyAsync(host_.raw(), source.raw(), source.bytes(), cudaMemcpyDeviceToHost, stream),
        "copying");
  check(cudaEventRecord(static_cast<cudaEvent_t>(arrived_.get()), stream), "copying");
}

const Tensor& LateCopy::wait() {
  if (arrived_)
    check(cudaEventSynchronize(static_cast<cudaEvent_t>(arrived_.get())), "waiting for a copy");
  return host_;
}

}  // namespace weft
