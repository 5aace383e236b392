// Progress for people, on standard error.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "core/telemetry/sink.h"

namespace weft::telemetry {

// The terminal that standard error reaches, as file descriptor: standard error itself, or the
// terminal of mpirun, which passes it on. launch/ says so; -1: none.
void set_terminal(int fd);
int terminal();

// Writes text as it is; a closed pipe or full disk is ignored.
using Write = std::function<void(const std::string&)>;
void write_to_stderr(const std::string& text);

// "step 120/500  24%  loss 1.2345  5.61k tokens/s  ETA 3 min 20 s  1.21 GiB  lr 0.001  norm 0.8":
// as many of the parts, from the left, as fit into `width`.
std::string progress_text(const StepMetrics& metrics, const Pace& pace, size_t width);
// "step 120: held-out loss 1.9, accuracy 71.2 %"
std::string evaluation_text(int64_t step, const Json& figures);

// One line a terminal shows again and again; lines of the log appear above it.
class LiveLine : public Sink {
 public:
  LiveLine(Write write, std::function<size_t()> width);
  ~LiveLine() override;
  void start(int64_t step, int64_t total_steps) override;
  void step(const StepMetrics& metrics, const Pace& pace) override;
  void evaluation(int64_t step, const Json& figures) override;
  void checkpoint(int64_t step, double seconds) override;
  void finish() override;

 private:
  void draw(const std::string& text);
  void clear();
  void print_above(const std::string& line);

  Write write_;
  std::function<size_t()> width_;
  std::mutex mutex_;  // log lines come from any thread
  std::string line_;  // what is to be seen
  bool on_screen_ = false;
  std::chrono::steady_clock::time_point last_draw_{};
};

// A line every `every` steps.
class PlainLines : public Sink {
 public:
  PlainLines(Write write, int64_t every) : write_(std::move(write)), every_(every) {}
  void start(int64_t step, int64_t total_steps) override;
  void step(const StepMetrics& metrics, const Pace& pace) override;
  void evaluation(int64_t step, const Json& figures) override;
  void checkpoint(int64_t step, double seconds) override;
  void finish() override {}

 private:
  Write write_;
  int64_t every_;
  bool first_ = true;
};

// The sink that `progress` asks for; null for none.
std::unique_ptr<Sink> make_progress(const LogConfig& config);

}  // namespace weft::telemetry
