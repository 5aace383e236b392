#include <cuda_runtime.h>

#include "core/base/error.h"
#include "core/tensor/allocator.h"
#include "core/tensor/device_graph.h"
#include "core/tensor/device_memory.h"

namespace weft {
namespace {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  fail(ErrorKind::unavailable, "[graph] {}: {} ({})", what, cudaGetErrorString(status),
       cudaGetErrorName(status));
}

// The compute stream records from here to finish(); without it the recording is thrown away.
class Recording {
 public:
  Recording(cudaStream_t stream, MemoryReserve& memory) : stream_(stream), memory_(memory) {
    memory_.begin();
    // Relaxed: taking memory from the driver is allowed, and no part of the work.
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), "recording");
  }
  ~Recording() {
    memory_.end();
    if (finished_) return;
    cudaGraph_t broken = nullptr;
    cudaStreamEndCapture(stream_, &broken);
    if (broken) cudaGraphDestroy(broken);
    cudaGetLastError();  // of what could not be recorded: it has been thrown
  }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  cudaGraph_t finish() {
    finished_ = true;
    cudaGraph_t graph = nullptr;
    const cudaError_t status = cudaStreamEndCapture(stream_, &graph);
    if (status != cudaSuccess) cudaGetLastError();
    check(status, "the GPU cannot record this work");
    return graph;
  }

 private:
  cudaStream_t stream_;
  MemoryReserve& memory_;
  bool finished_ = false;
};

}  // namespace

struct DeviceGraph::Recorded {
  explicit Recorded(Device where) : device(where), memory(where) {}
  ~Recorded() {
    if (executable) cudaGraphExecDestroy(executable);  // a replay that still runs is finished first
    if (graph) cudaGraphDestroy(graph);
  }
  Device device;
  MemoryReserve memory;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
};

DeviceGraph DeviceGraph::record(Device device, const std::function<void()>& work) {
  CHECK(!device.is_cpu(), "graphs are for GPUs");
  const auto stream = static_cast<cudaStream_t>(device_memory::stream(device.index));
  check(cudaSetDevice(device.index), "choosing a GPU");
  const auto recorded = std::make_shared<Recorded>(device);
  {
    Recording recording(stream, recorded->memory);
    work();
    recorded->graph = recording.finish();
  }
  check(cudaGraphInstantiate(&recorded->executable, recorded->graph, 0), "preparing");
  check(cudaGraphUpload(recorded->executable, stream), "uploading");
  DeviceGraph graph;
  graph.recorded_ = recorded;
  return graph;
}

void DeviceGraph::replay() const {
  CHECK(recorded_, "an empty graph");
  check(cudaSetDevice(recorded_->device.index), "choosing a GPU");
  const auto stream = static_cast<cudaStream_t>(device_memory::stream(recorded_->device.index));
  check(cudaGraphLaunch(recorded_->executable, stream), "replaying");
}

}  // namespace weft
