// How long a piece of device work takes.
#pragma once

#include <functional>

#include "core/tensor/tensor.h"

namespace weft::recipes {

// Medians. On a GPU by events on the compute stream, with its caches written full before each turn
// (as Triton's do_bench does); nothing waits between the turns. On the CPU by the clock.
class BenchTimer {
 public:
  explicit BenchTimer(Device device, double seconds_each = 0.2);
  ~BenchTimer();
  BenchTimer(const BenchTimer&) = delete;
  BenchTimer& operator=(const BenchTimer&) = delete;

  // Seconds of one call, which has been made twice before.
  double median(const std::function<void()>& body);
  void synchronize() const;  // waits for what the device was given

 private:
  void turn(const std::function<void()>& body, size_t i);
  double seconds_of(size_t i) const;

  Device device_;
  double seconds_each_;
  Tensor cache_filler_;  // GPU
  std::vector<void*> begins_, ends_;
  std::vector<double> seconds_;  // CPU
};

}  // namespace weft::recipes
