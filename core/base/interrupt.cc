#include "core/base/interrupt.h"

#include <atomic>

namespace weft {
namespace {

std::atomic<int> requested{0};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may not take a lock");

}  // namespace

void request_stop(int signal) noexcept {
  requested.store(signal);
}
bool stop_requested() noexcept {
  return requested.load() != 0;
}
int stop_signal() noexcept {
  return requested.load();
}
void clear_stop_request() noexcept {
  requested.store(0);
}

}  // namespace weft
