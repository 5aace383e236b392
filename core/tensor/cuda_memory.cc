#include <cuda_runtime.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

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

// What keeps the GPUs from being used. Without a driver the runtime reports one that is too old.
std::string reason(cudaError_t status) {
  constexpr int kOldestDriver = CUDART_VERSION >= 13000 ? 580 : 525;
  int driver = 0;  // the CUDA version that it was made for; 0: there is none
  const bool asked = cudaDriverGetVersion(&driver) == cudaSuccess;
  if (asked && driver == 0)
    return fmt::format(
        "no NVIDIA driver is installed here, or this container does not see it (CUDA {} needs "
        "driver {} or newer)",
        CUDART_VERSION / 1000, kOldestDriver);
  if (status == cudaErrorInsufficientDriver)
    return fmt::format(
        "the NVIDIA driver is too old: it knows CUDA {}.{}, and this build needs CUDA {} (driver "
        "{} or newer)",
        driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, kOldestDriver);
  if (status == cudaSuccess || status == cudaErrorNoDevice)
    return "the NVIDIA driver shows no GPU here (is CUDA_VISIBLE_DEVICES empty?)";
  return fmt::format("the NVIDIA driver does not start: {}", cudaGetErrorString(status));
}

struct Found {
  int count = 0;
  std::string why_none;
  Found() {
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status == cudaSuccess && count > 0) return;
    count = 0;
    why_none = reason(status);
    cudaGetLastError();  // it is no error of what comes later
  }
};

// A recording would repeat the copy with a buffer that has other contents by then.
void refuse_while_recording(cudaStream_t on) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(on, &status), "asking the compute stream");
  if (status != cudaStreamCaptureStatusNone)
    fail(ErrorKind::internal, "[graph] work that is recorded copies to or from the host");
}

std::shared_ptr<void> record_point(cudaStream_t on) {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
  std::shared_ptr<void> point(event,
                              [](void* e) { cudaEventDestroy(static_cast<cudaEvent_t>(e)); });
  check(cudaEventRecord(event, on), "recording an event");
  return point;
}

// One a GPU, made when it is first asked for.
class Streams {
 public:
  cudaStream_t of(int gpu) {
    CHECK(gpu >= 0 && gpu < kMaxGpus, "GPU {}", gpu);
    const std::lock_guard lock(mutex_);
    if (!streams_[gpu]) {
      use(gpu);
      check(cudaStreamCreateWithFlags(&streams_[gpu], cudaStreamNonBlocking), "making a stream");
    }
    return streams_[gpu];
  }

 private:
  std::array<cudaStream_t, kMaxGpus> streams_{};
  std::mutex mutex_;
};

void begin_after(cudaStream_t waits, const std::shared_ptr<void>& point) {
  check(cudaStreamWaitEvent(waits, static_cast<cudaEvent_t>(point.get()), 0),
        "ordering two streams");
}

// Two pinned buffers that copies to the GPU go through: small ones share a buffer, large ones
// alternate between them.
class Staging {
 public:
  static Staging& of(int gpu) {
    static std::array<Staging*, kMaxGpus> all{};
    static std::mutex making;
    const std::lock_guard lock(making);
    if (!all[gpu]) all[gpu] = new Staging;  // outlives every tensor
    return *all[gpu];
  }

  void copy(void* to, const void* from, size_t bytes, cudaStream_t on) {
    const std::lock_guard lock(mutex_);
    auto* target = static_cast<char*>(to);
    const auto* source = static_cast<const char*>(from);
    while (bytes > 0) {
      if (used_ == kBytes) turn_over(on);
      const size_t part = std::min(bytes, kBytes - used_);
      char* staged = static_cast<char*>(buffers_[current_].get()) + used_;
      std::memcpy(staged, source, part);
      check(cudaMemcpyAsync(target, staged, part, cudaMemcpyHostToDevice, on), "copying memory");
      used_ += part, bytes -= part, source += part, target += part;
    }
  }

 private:
  static constexpr size_t kBytes = size_t{8} << 20;

  void turn_over(cudaStream_t on) {
    ends_[current_] = record_point(on);
    current_ = 1 - current_;
    if (ends_[current_]) wait(ends_[current_]);
    used_ = 0;
  }

  std::mutex mutex_;
  std::array<std::shared_ptr<void>, 2> buffers_ = {pinned(kBytes), pinned(kBytes)};
  std::array<std::shared_ptr<void>, 2> ends_;  // of the copies out of a full buffer
  int current_ = 0;
  size_t used_ = 0;
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

size_t total_bytes(int gpu) {
  // Asked for with every attention; the driver takes its time.
  static std::array<std::atomic<size_t>, kMaxGpus> known{};
  if (known[gpu] > 0) return known[gpu];
  use(gpu);
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for its memory");
  return known[gpu] = total;
}

bool has_bf16(int gpu) {
  int major = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, gpu), "asking a GPU");
  return major >= 8;
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
  if (from_device.is_cpu()) {
    refuse_while_recording(on);
    return Staging::of(gpu).copy(to, from, bytes, on);
  }
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, on), "copying memory");
  if (to_device.is_cpu()) synchronize(gpu);
}

void synchronize(int gpu) {
  use(gpu);
  check(cudaStreamSynchronize(static_cast<cudaStream_t>(stream(gpu))), "waiting for the GPU");
}

void* stream(int gpu) {
  static Streams streams;
  return streams.of(gpu);
}

std::shared_ptr<void> pinned(size_t bytes) {
  // Kept and reused by size: taking it from the driver waits for the GPU.
  static std::mutex mutex;
  static auto& kept = *new std::map<size_t, std::vector<void*>>;
  void* block = nullptr;
  {
    const std::lock_guard lock(mutex);
    std::vector<void*>& blocks = kept[bytes];
    if (!blocks.empty()) block = blocks.back(), blocks.pop_back();
  }
  if (!block) check(cudaHostAlloc(&block, bytes, cudaHostAllocPortable), "taking pinned memory");
  return {block, [bytes](void* p) {
            const std::lock_guard lock(mutex);
            kept[bytes].push_back(p);
          }};
}

std::shared_ptr<void> copy_later(void* to_pinned, const void* from, size_t bytes, int gpu) {
  use(gpu);
  const cudaStream_t on = static_cast<cudaStream_t>(stream(gpu));
  check(cudaMemcpyAsync(to_pinned, from, bytes, cudaMemcpyDeviceToHost, on), "copying memory");
  return record_point(on);
}

void wait(const std::shared_ptr<void>& point) {
  check(cudaEventSynchronize(static_cast<cudaEvent_t>(point.get())), "waiting for the GPU");
}

bool passed(const std::shared_ptr<void>& point) {
  return cudaEventQuery(static_cast<cudaEvent_t>(point.get())) == cudaSuccess;
}

void* stream_beside(int gpu) {
  static Streams streams;
  return streams.of(gpu);
}

std::shared_ptr<void> copy_beside(const std::vector<Copy>& copies, int gpu) {
  use(gpu);
  const auto compute = static_cast<cudaStream_t>(stream(gpu));
  const auto on = static_cast<cudaStream_t>(stream_beside(gpu));
  refuse_while_recording(compute);
  begin_after(on, record_point(compute));
  for (const Copy& c : copies)
    check(cudaMemcpyAsync(c.to, c.from, c.bytes, cudaMemcpyDefault, on), "copying memory");
  return record_point(on);
}

void compute_after(const std::shared_ptr<void>& point, int gpu) {
  use(gpu);
  begin_after(static_cast<cudaStream_t>(stream(gpu)), point);
}

std::shared_ptr<void> pinned_beside(size_t bytes, int gpu) {
  use(gpu);
  void* block = nullptr;
  const cudaError_t status = cudaHostAlloc(&block, bytes, cudaHostAllocPortable);
  if (status == cudaErrorMemoryAllocation || status == cudaErrorInvalidValue ||
      status == cudaErrorOperatingSystem) {  // what the driver says of too much, or of a limit
    cudaGetLastError();                      // it is not sticky
    return nullptr;
  }
  check(status, "taking pinned memory");
  return {block, [gpu](void* p) {
            cudaSetDevice(gpu);
            cudaStreamSynchronize(static_cast<cudaStream_t>(stream_beside(gpu)));
            cudaFreeHost(p);  // at the process's end the driver may be gone: nothing to report then
          }};
}

}  // namespace weft::device_memory
