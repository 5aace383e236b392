#include "core/base/error.h"
#include "core/tensor/device_memory.h"

namespace weft::device_memory {
namespace {

[[noreturn]] void no_cuda() {
  fail(ErrorKind::unavailable, "{}", why_none());
}

}  // namespace

int count() {
  return 0;
}
const char* why_none() {
  return "this build of weft has no GPU code (the preset `cuda` builds it)";
}
std::string bus_id(int) {
  no_cuda();
}
size_t total_bytes(int) {
  no_cuda();
}
bool has_bf16(int) {
  no_cuda();
}
void* take(size_t, int) {
  no_cuda();
}
void give(void*, int) {
  no_cuda();
}
void zero(void*, size_t, int) {
  no_cuda();
}
void copy(void*, Device, const void*, Device, size_t) {
  no_cuda();
}
void synchronize(int) {
  no_cuda();
}
void* stream(int) {
  no_cuda();
}
std::shared_ptr<void> pinned(size_t) {
  no_cuda();
}
std::shared_ptr<void> copy_later(void*, const void*, size_t, int) {
  no_cuda();
}
void wait(const std::shared_ptr<void>&) {
  no_cuda();
}
bool passed(const std::shared_ptr<void>&) {
  no_cuda();
}
std::shared_ptr<void> copy_beside(const std::vector<Copy>&, int) {
  no_cuda();
}
void* stream_beside(int) {
  no_cuda();
}
void compute_after(const std::shared_ptr<void>&, int) {
  no_cuda();
}
std::shared_ptr<void> pinned_beside(size_t, int) {
  no_cuda();
}

}  // namespace weft::device_memory
