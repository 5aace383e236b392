#include "core/telemetry/metrics_file.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/tensor/allocator.h"

namespace weft::telemetry {
namespace {

// The step of a line; -1 for a line that is none of ours (torn, damaged).
int64_t step_of(const std::string& line) {
  try {
    const Json json = Json::parse(line, "metrics.jsonl");
    const Json* step = json.find("step");
    return step && step->is_int() ? step->as_int() : -1;
  } catch (const Error&) {
    return -1;
  }
}

Json memory_by_tag(Device device) {
  Json memory;
  for (int i = 0; i < static_cast<int>(MemoryTag::count_); ++i) {
    const auto tag = static_cast<MemoryTag>(i);
    if (const size_t peak = memory_use(tag, device).peak) memory.set(name_of(tag), peak);
  }
  return memory;
}

double unix_seconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<double>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count()) /
         1000;
}

}  // namespace

void MetricsFile::start(int64_t step, int64_t) {
  file_.reset();
  try {
    std::filesystem::create_directories(std::filesystem::path(path_).parent_path());
    drop_lines_past(step);
  } catch (const std::exception& e) {
    return give_up(e.what());
  }
  file_.reset(std::fopen(path_.c_str(), "a"));
  if (!file_) give_up(std::strerror(errno));
}

void MetricsFile::drop_lines_past(int64_t step) {
  std::ifstream in(path_);
  if (!in) return;
  const std::string kept_path = path_ + ".tmp";
  std::ofstream kept(kept_path, std::ios::trunc);
  for (std::string line; std::getline(in, line);) {
    const int64_t at = step_of(line);
    if (at >= 0 && at <= step) kept << line << "\n";
  }
  kept.close();
  if (!kept) fail(ErrorKind::io, "{} cannot be written", kept_path);
  std::filesystem::rename(kept_path, path_);
}

void MetricsFile::step(const StepMetrics& metrics, const Pace& pace) {
  Json line;
  line.set("step", metrics.step);
  line.set("epoch", metrics.epoch);
  line.set("loss", metrics.loss);
  line.set("grad_norm", metrics.grad_norm);
  line.set("lr", metrics.lr);
  line.set("tokens", metrics.tokens);
  line.set("trained_tokens", metrics.trained_tokens);
  line.set("seconds", metrics.seconds);
  line.set("tokens_per_second", pace.tokens_per_second);
  if (metrics.flops_per_token > 0)
    line.set("flops_per_second", metrics.flops_per_token * pace.tokens_per_second);
  if (pace.tflops > 0) line.set("tflops", pace.tflops);
  if (pace.mfu > 0) line.set("mfu", pace.mfu);
  line.set("skipped", metrics.skipped);
  line.set("memory_bytes", pace.memory_bytes);
  line.set("memory_peak_bytes", memory_by_tag(pace.device));
  append(std::move(line));
}

void MetricsFile::evaluation(int64_t step, const Json& figures) {
  Json line;
  line.set("step", step);
  line.set("evaluation", figures);
  append(std::move(line));
}

void MetricsFile::checkpoint(int64_t step, double seconds) {
  Json line;
  line.set("step", step);
  line.set("checkpoint_seconds", seconds);
  append(std::move(line));
}

void MetricsFile::finish() {
  file_.reset();
}

// A line is written whole or, when the process dies in it, dropped at the next start.
void MetricsFile::append(Json line) {
  if (!file_) return;
  line.set("time", unix_seconds());
  const std::string text = line.dump() + "\n";
  if (std::fwrite(text.data(), 1, text.size(), file_.get()) != text.size() ||
      std::fflush(file_.get()) != 0)
    give_up(std::strerror(errno));
}

void MetricsFile::give_up(const char* what) {
  log::warn("{}: {}; the run goes on without this file", path_, what);
  file_.reset();
}

}  // namespace weft::telemetry
