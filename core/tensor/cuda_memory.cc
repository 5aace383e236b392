#include <cuda_runtime.h>

#include <array>
#include <mutex>
#include <string>

#include "core/base/error.h"
#include "core/tensor/device_memory.h"

namespace weft::device_memory {
namespace {

constexpr int kMaxGpus = 64;

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  fail(ErrorKind::unavailable, "[cuda] {}: {} ({})", what, cudaGetErrorString(status),
       cudaGetErrorName(status));
}

// Threads of one process (a rank's loader, its trainer) each have a current GPU.
void use(int gpu) {
  check(cudaSetDevice(gpu), "choosing a GPU");
}

struct Found {
  int count = 0;
  std::string why_none;
  Found() {
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status == cudaSuccess && count > 0) return;
    count = 0;
    why_none = status == cudaErrorInsufficientDriver
                   ? "the GPU's driver is missing or older than this build needs (CUDA 13: driver "
                     "580 or newer)"
                   : "no GPU is visible here (is CUDA_VISIBLE_DEVICES empty?)";
    why_none += std::string(": ") + cudaGetErrorString(status) + "; train.device=cpu uses the CPU";
    cudaGetLastError();
  }
};

const Found& found() {
  static const Found once;
  return once;
}

}  // namespace

int count() {
  return found().count;
}

const char* why_none() {
  return found().why_none.c_str();
}

std::string bus_id(int gpu) {
  char id[32] = "";
  check(cudaDeviceGetPCIBusId(id, sizeof id, gpu), "asking for a GPU's bus id");
  return id;
}

void* take(size_t bytes, int gpu) {
  use(gpu);
  void* block = nullptr;
  const cudaError_t status = cudaMalloc(&block, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // it is not sticky
    return nullptr;
  }
  check(status, "taking memory");
  return block;
}

void give(void* block, int gpu) {
  use(gpu);
  cudaFree(block);  // at the process's end the driver may be gone: nothing to report then
}

void zero(void* data, size_t bytes, int gpu) {
  use(gpu);
  check(cudaMemsetAsync(data, 0, bytes, static_cast<cudaStream_t>(stream(gpu))), "zeroing memory");
}

void copy(void* to, Device to_device, const void* from, Device from_device, size_t bytes) {
  const int gpu = to_device.is_cpu() ? from_device.index : to_device.index;
  use(gpu);
  const cudaStream_t on = static_cast<cudaStream_t>(stream(gpu));
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, on), "copying memory");
  if (to_device.is_cpu() || from_device.is_cpu()) synchronize(gpu);
}

void synchronize(int gpu) {
  use(gpu);
  check(cudaStreamSynchronize(static_cast<cudaStream_t>(stream(gpu))), "waiting for the GPU");
}

void* stream(int gpu) {
  static std::array<cudaStream_t, kMaxGpus> streams{};
  static std::mutex mutex;
  CHECK(gpu >= 0 && gpu < kMaxGpus, "GPU {}", gpu);
  const std::lock_guard lock(mutex);
  if (!streams[gpu]) {
    use(gpu);
    check(cudaStreamCreateWithFlags(&streams[gpu], cudaStreamNonBlocking), "making a stream");
  }
  return streams[gpu];
}

}  // namespace weft::device_memory
