// metrics.jsonl: one JSON object a line and event, appended. docs/metrics.md describes the keys.
#pragma once

#include <cstdio>
#include <memory>
#include <string>

#include "core/telemetry/sink.h"

namespace weft::telemetry {

class MetricsFile : public Sink {
 public:
  explicit MetricsFile(std::string path) : path_(std::move(path)) {}
  // Drops what a run that was cut off wrote past `step`, and a torn last line.
  void start(int64_t step, int64_t total_steps) override;
  void step(const StepMetrics& metrics, const Pace& pace) override;
  void evaluation(int64_t step, const Json& figures) override;
  void checkpoint(int64_t step, double seconds) override;
  void finish() override;

 private:
  void drop_lines_past(int64_t step);
  void append(Json line);
  void give_up(const char* what);

  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::string path_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace weft::telemetry
