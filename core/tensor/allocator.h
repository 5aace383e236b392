// Memory by purpose. Every tensor's storage comes from here, tagged with what it is for, so that
// the log, the out-of-memory message and the planner speak of the same things.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>

#include "core/tensor/device.h"

namespace weft {

enum class MemoryTag {
  parameter,
  gradient,
  optimizer,
  activation,
  deferred,  // x and dy of queued weight gradients
  workspace,
  communication,
  count_
};
const char* name_of(MemoryTag tag);

struct MemoryUse {
  size_t current = 0;  // bytes in use now
  size_t peak = 0;     // most bytes in use at once
};

// Bytes aligned to 64. Freed blocks are kept and reused by size. Thread-safe.
// Throws Error{unavailable} with the request, its tag and the table when memory is out.
std::shared_ptr<void> allocate(size_t bytes, Device device, MemoryTag tag);

MemoryUse memory_use(MemoryTag tag, Device device = {});
MemoryUse memory_use_total(Device device = {});  // of all tags together; its peak is of the sum
void reset_memory_peaks(Device device = {});
void release_cached_memory(Device device = {});  // gives kept blocks back to the system
std::string memory_table(Device device = {});    // a line a tag: current and peak in MiB

}  // namespace weft
