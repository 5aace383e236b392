#include <cuda_runtime.h>

#include "core/base/error.h"
#include "core/tensor/device_timer.h"

namespace weft::device_timer {
namespace {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  fail(ErrorKind::unavailable, "[cuda] {}: {} ({})", what, cudaGetErrorString(status),
       cudaGetErrorName(status));
}

}  // namespace

void* make(int gpu) {
  check(cudaSetDevice(gpu), "choosing a GPU");
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), "making an event");
  return event;
}

void give(void* event) noexcept {
  if (event) cudaEventDestroy(static_cast<cudaEvent_t>(event));
}

bool record(void* event, void* stream, int gpu) {
  check(cudaSetDevice(gpu), "choosing a GPU");
  const auto on = static_cast<cudaStream_t>(stream);
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(on, &capture), "asking a stream");
  if (capture != cudaStreamCaptureStatusNone) return false;
  check(cudaEventRecord(static_cast<cudaEvent_t>(event), on), "recording an event");
  return true;
}

double seconds(void* from, void* to) {
  const auto begin = static_cast<cudaEvent_t>(from), end = static_cast<cudaEvent_t>(to);
  check(cudaEventSynchronize(begin), "waiting for an event");
  check(cudaEventSynchronize(end), "waiting for an event");
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, begin, end), "reading the time of an event");
  return milliseconds * 1e-3;
}

std::string gpu_name(int gpu) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, gpu), "asking for a GPU's name");
  return properties.name;
}

}  // namespace weft::device_timer
