// Work of a GPU's compute stream, recorded once and started again with one call: what is bound by
// the time of its launches runs without them.
#pragma once

#include <functional>
#include <memory>

#include "core/tensor/device.h"

namespace weft {

class DeviceGraph {
 public:
  DeviceGraph() = default;  // empty

  // Calls work(): what it gives to the GPU's compute stream is recorded and does not run. What it
  // does on the host happens once, now. Every replay reads and writes the addresses of this call:
  //  - tensors from outside must live as long as the graph, and hold what a replay is to read;
  //  - memory that work() takes belongs to the graph until it is gone (MemoryReserve), also what
  //    it has freed; a tensor that it leaves behind has the result of the latest replay.
  // work() must not wait for the GPU nor copy from or to the host (it throws), and no other thread
  // may use the compute stream meanwhile. So run it once before: what is chosen, measured or
  // uploaded at first use is settled then. Memory may be taken from the driver. Throws what work()
  // throws, unavailable when the GPU cannot record it; nothing is left of the recording then.
  static DeviceGraph record(Device device, const std::function<void()>& work);

  // Enqueues the work on the compute stream, in order with everything else there.
  void replay() const;

  explicit operator bool() const { return recorded_ != nullptr; }

 private:
  struct Recorded;
  std::shared_ptr<const Recorded> recorded_;
};

}  // namespace weft
