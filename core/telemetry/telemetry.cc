#include "core/telemetry/telemetry.h"

#include <chrono>
#include <limits>
#include <vector>

#include "core/telemetry/metrics_file.h"
#include "core/telemetry/progress.h"
#include "core/tensor/allocator.h"

namespace weft::telemetry {
namespace {

using Clock = std::chrono::steady_clock;

// Weight of the newest step in the shown speed.
constexpr double kNewest = 0.1;

double smoothed(double old, double now) {
  return old > 0 ? old + kNewest * (now - old) : now;
}

}  // namespace

struct Telemetry::State {
  std::vector<std::unique_ptr<Sink>> sinks;
  Pace pace;
  Machine machine;
  Clock::time_point last_step;
  double smooth_seconds = 0;  // from step to step, evaluations and checkpoints included
  int64_t steps_seen = 0;

  void measure(const StepMetrics& metrics) {
    const Clock::time_point now = Clock::now();
    const double between = std::chrono::duration<double>(now - last_step).count();
    last_step = now;
    if (metrics.seconds > 0)
      pace.tokens_per_second = static_cast<double>(metrics.tokens) / metrics.seconds;
    // The first step warms up; it would spoil the estimates for long.
    if (steps_seen++ == 1) pace.smooth_tokens_per_second = smooth_seconds = 0;
    pace.smooth_tokens_per_second = smoothed(pace.smooth_tokens_per_second, pace.tokens_per_second);
    smooth_seconds = smoothed(smooth_seconds, between);
    pace.seconds_left = smooth_seconds * static_cast<double>(pace.total_steps - metrics.step);
    count_flops(metrics.flops_per_token);
    pace.device = machine.device;
    const MemoryUse memory = memory_use_total(machine.device);
    pace.memory_bytes = memory.current;
    pace.memory_peak_bytes = memory.peak;
  }

  void count_flops(double flops_per_token) {
    const double flops_per_device = flops_per_token / machine.devices;
    pace.tflops = flops_per_device * pace.tokens_per_second / 1e12;
    pace.smooth_tflops = flops_per_device * pace.smooth_tokens_per_second / 1e12;
    const double peak = machine.peak_flops / 1e12;
    pace.mfu = peak > 0 ? pace.tflops / peak : 0;
    pace.smooth_mfu = peak > 0 ? pace.smooth_tflops / peak : 0;
  }
};

Telemetry::Telemetry(const LogConfig& config, const std::string& run_folder, bool writes)
    : state_(std::make_unique<State>()) {
  if (!writes) return;
  if (auto progress = make_progress(config)) state_->sinks.push_back(std::move(progress));
  if (config.metrics && !run_folder.empty())
    state_->sinks.push_back(std::make_unique<MetricsFile>(run_folder + "/metrics.jsonl"));
}

Telemetry::~Telemetry() = default;

void Telemetry::set_machine(const Machine& machine) {
  state_->machine = machine;
}

void Telemetry::start(int64_t step, int64_t total_steps) {
  state_->pace =
      Pace{.total_steps = total_steps, .seconds_left = std::numeric_limits<double>::infinity()};
  state_->last_step = Clock::now();
  state_->steps_seen = 0;
  for (auto& sink : state_->sinks) sink->start(step, total_steps);
}

void Telemetry::step(const StepMetrics& metrics) {
  state_->measure(metrics);
  for (auto& sink : state_->sinks) sink->step(metrics, state_->pace);
}

void Telemetry::evaluation(int64_t step, const Json& figures) {
  for (auto& sink : state_->sinks) sink->evaluation(step, figures);
}

void Telemetry::checkpoint(int64_t step, double seconds) {
  for (auto& sink : state_->sinks) sink->checkpoint(step, seconds);
}

void Telemetry::finish() {
  for (auto& sink : state_->sinks) sink->finish();
}

}  // namespace weft::telemetry
