#include "core/base/error.h"
#include "core/tensor/device_graph.h"
#include "core/tensor/device_memory.h"

namespace weft {

DeviceGraph DeviceGraph::record(Device, const std::function<void()>&) {
  fail(ErrorKind::unavailable, "{}", device_memory::why_none());
}

void DeviceGraph::replay() const {
  CHECK(recorded_, "an empty graph");
}

}  // namespace weft
