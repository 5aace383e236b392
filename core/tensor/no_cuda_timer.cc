#include "core/base/error.h"
#include "core/tensor/device_memory.h"
#include "core/tensor/device_timer.h"

namespace weft::device_timer {
namespace {

[[noreturn]] void no_cuda() {
  fail(ErrorKind::unavailable, "{}", device_memory::why_none());
}

}  // namespace

void* make(int) {
  no_cuda();
}
void give(void*) noexcept {}
bool record(void*, void*, int) {
  no_cuda();
}
double seconds(void*, void*) {
  no_cuda();
}
std::string gpu_name(int) {
  no_cuda();
}

}  // namespace weft::device_timer
