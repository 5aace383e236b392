// Where telemetry goes. One class a destination.
#pragma once

#include <cstdint>

#include "core/base/json.h"
#include "core/telemetry/telemetry.h"

namespace weft::telemetry {

// What sinks show beside the step's own metrics; computed once for all of them.
struct Pace {
  int64_t total_steps = 0;
  double tokens_per_second = 0;  // of this step
  double smooth_tokens_per_second = 0;
  double seconds_left = 0;  // all that happens between steps included; infinite: not known yet
  Device device;            // whose memory is meant
  size_t memory_bytes = 0;  // tensors of this rank now
  size_t memory_peak_bytes = 0;
  double tflops = 0;         // of this step, a device; 0: not known
  double smooth_tflops = 0;  // the same, as smooth_tokens_per_second
  double mfu = 0;            // tflops as a share of the device's peak; 0: not known
  double smooth_mfu = 0;
};

class Sink {
 public:
  virtual ~Sink() = default;
  virtual void start(int64_t step, int64_t total_steps) = 0;
  virtual void step(const StepMetrics& metrics, const Pace& pace) = 0;
  virtual void evaluation(int64_t step, const Json& figures) = 0;
  virtual void checkpoint(int64_t step, double seconds) = 0;
  virtual void finish() = 0;
};

}  // namespace weft::telemetry
