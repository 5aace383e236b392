#include "recipes/bench_timer.h"

#include <algorithm>
#include <chrono>

#include "core/tensor/device_memory.h"
#include "core/tensor/device_timer.h"

namespace weft::recipes {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kCacheBytes = int64_t{256} << 20;  // more than any GPU's L2
constexpr size_t kFewest = 3, kMost = 100;

}  // namespace

BenchTimer::BenchTimer(Device device, double seconds_each)
    : device_(device), seconds_each_(seconds_each) {
  if (device_.is_cpu()) return;
  cache_filler_ = Tensor::empty({kCacheBytes / 4}, DType::f32, device_, MemoryTag::workspace);
  for (size_t i = 0; i < kMost; ++i) {
    begins_.push_back(device_timer::make(device_.index));
    ends_.push_back(device_timer::make(device_.index));
  }
}

BenchTimer::~BenchTimer() {
  for (void* event : begins_) device_timer::give(event);
  for (void* event : ends_) device_timer::give(event);
}

void BenchTimer::synchronize() const {
  if (!device_.is_cpu()) device_memory::synchronize(device_.index);
}

void BenchTimer::turn(const std::function<void()>& body, size_t i) {
  if (device_.is_cpu()) {
    const Clock::time_point begin = Clock::now();
    body();
    seconds_[i] = std::chrono::duration<double>(Clock::now() - begin).count();
    return;
  }
  void* stream = device_memory::stream(device_.index);
  cache_filler_.zero_();  // while it runs, the body is issued
  device_timer::record(begins_[i], stream, device_.index);
  body();
  device_timer::record(ends_[i], stream, device_.index);
}

double BenchTimer::seconds_of(size_t i) const {
  return device_.is_cpu() ? seconds_[i] : device_timer::seconds(begins_[i], ends_[i]);
}

double BenchTimer::median(const std::function<void()>& body) {
  seconds_.assign(kMost, 0);
  body();  // choices and memory of the first call
  turn(body, 0);
  const double once = std::max(seconds_of(0), 1e-7);
  const size_t turns = std::clamp(static_cast<size_t>(seconds_each_ / once), kFewest, kMost);
  for (size_t i = 0; i < turns; ++i) turn(body, i);
  std::vector<double> times;
  for (size_t i = 0; i < turns; ++i) times.push_back(seconds_of(i));
  std::nth_element(times.begin(), times.begin() + static_cast<int64_t>(turns / 2), times.end());
  return times[turns / 2];
}

}  // namespace weft::recipes
