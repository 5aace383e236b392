// Memory by purpose. Every tensor's storage comes from here, tagged with what it is for, so that
// the log, the out-of-memory message and the planner speak of the same things.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "core/base/error.h"
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

// What was asked for, for what, and the table.
struct OutOfMemory : Error {
  explicit OutOfMemory(const std::string& message) : Error(ErrorKind::unavailable, message) {}
};

// Bytes aligned to 64. Freed blocks are kept and reused by size. Thread-safe. Throws OutOfMemory.
std::shared_ptr<void> allocate(size_t bytes, Device device, MemoryTag tag);

MemoryUse memory_use(MemoryTag tag, Device device = {});
MemoryUse memory_use_total(Device device = {});  // of all tags together; its peak is of the sum
void reset_memory_peaks(Device device = {});
// What is taken of the device at once, at most; 0: all that there is. Throws nothing: what passes
// it is out of memory.
void limit_memory(size_t bytes, Device device);
// Blocks taken from the system or driver so far: no more in a steady state.
int64_t memory_requests(Device device = {});
void release_cached_memory(Device device = {});  // gives kept blocks back to the system
std::string memory_table(Device device = {});    // a line a tag: current and peak in MiB

// Blocks of work that will be repeated at the same addresses (DeviceGraph). What this thread takes
// of the device's memory between begin() and end() belongs to the reserve: when it is freed it
// serves what the reserve takes later, and neither another user nor the system gets it until the
// reserve is gone. Free blocks are taken over from everybody's, so that work which has run once
// before costs no new memory.
class MemoryReserve {
 public:
  explicit MemoryReserve(Device device);
  ~MemoryReserve();
  MemoryReserve(const MemoryReserve&) = delete;
  MemoryReserve& operator=(const MemoryReserve&) = delete;
  void begin();  // REQUIRES: no other reserve of this thread has begun
  void end();

  struct Blocks;

 private:
  std::shared_ptr<Blocks> blocks_;  // also owned by every block in use
};

}  // namespace weft
