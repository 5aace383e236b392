// Memory, copies and the compute stream of GPUs. In a build without CUDA there are none: count() is
// 0 and every other function throws unavailable.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor/device.h"

namespace weft::device_memory {

int count();                        // GPUs that can be used; 0 without a driver
const char* why_none();             // when count() is 0: what is missing
std::string bus_id(int gpu);        // "0000:1b:00.0": the same for all processes of a host
size_t total_bytes(int gpu);        // of its memory
bool has_bf16(int gpu);             // multiplies bf16 natively (compute capability 8.0 and more)
void* take(size_t bytes, int gpu);  // null when the GPU's memory is out
void give(void* block, int gpu);
void zero(void* data, size_t bytes, int gpu);  // on the compute stream
// On the compute stream of the GPU that takes part. From the host it goes through pinned buffers:
// `from` may change on return, and nobody has waited for the GPU unless the buffers were full. To
// the host it returns when the bytes have arrived.
void copy(void* to, Device to_device, const void* from, Device from_device, size_t bytes);
void synchronize(int gpu);  // waits for the compute stream; throws what went wrong on it
void* stream(int gpu);      // cudaStream_t: one a GPU, on which all of its work is ordered

std::shared_ptr<void> pinned(size_t bytes);  // host memory that GPUs copy to without a detour
// To pinned memory, asynchronously; the result is a point of the compute stream for wait() and
// passed().
std::shared_ptr<void> copy_later(void* to_pinned, const void* from, size_t bytes, int gpu);
void wait(const std::shared_ptr<void>& point);  // throws what went wrong before it
bool passed(const std::shared_ptr<void>& point);

// Copies to and from pinned memory that run beside the compute stream, on one stream of their own:
// behind what both have been given so far. The result is a point of that stream.
struct Copy {
  void* to = nullptr;
  const void* from = nullptr;
  size_t bytes = 0;
};
std::shared_ptr<void> copy_beside(const std::vector<Copy>& copies, int gpu);
void* stream_beside(int gpu);  // cudaStream_t: theirs
// What the compute stream is given from now on runs behind the point; the host goes on.
void compute_after(const std::shared_ptr<void>& point, int gpu);
// Pinned memory for such copies of this GPU; null where the host has no more. It goes back to the
// system with its last owner, once the copies are done.
std::shared_ptr<void> pinned_beside(size_t bytes, int gpu);

}  // namespace weft::device_memory
