// Telemetry: the trainer says what happened, sinks decide where it goes: a live line on a terminal,
// plain lines elsewhere, metrics.jsonl in the run folder. Rank 0 writes; the others call the same
// functions, which do nothing. Nothing here fails a run: a sink that cannot write says so once.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/base/json.h"
#include "core/telemetry/log_config.h"
#include "core/tensor/device.h"

namespace weft::telemetry {

struct StepMetrics {
  int64_t step = 0;  // steps done, this one included
  double epoch = 0;
  double loss = 0;
  double grad_norm = 0;
  double lr = 0;
  int64_t tokens = 0;          // of the global batch
  int64_t trained_tokens = 0;  // of them, with a label
  double seconds = 0;
  int64_t skipped = 0;  // so far
  double flops_per_token = 0;
};

// What computes: the divisors of a step's FLOP.
struct Machine {
  int devices = 1;        // ranks
  double peak_flops = 0;  // a second, of one device; 0: not known
  Device device = {};     // whose memory is shown
};

class Telemetry {
 public:
  // `run_folder` empty: no metrics.jsonl. `writes`: this is rank 0.
  Telemetry(const LogConfig& config, const std::string& run_folder, bool writes);
  ~Telemetry();

  void set_machine(const Machine& machine);

  // The run (re)starts behind `step`; lines of metrics.jsonl past it, of a run that was cut off,
  // go.
  void start(int64_t step, int64_t total_steps);
  void step(const StepMetrics& metrics);
  void evaluation(int64_t step, const Json& figures);  // {"loss":..., "accuracy":...}
  void checkpoint(int64_t step, double seconds);
  void finish();  // ends the live line

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace weft::telemetry
