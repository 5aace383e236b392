#include "core/telemetry/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cmath>
#include <vector>

#include "core/base/log.h"
#include "core/base/units.h"

namespace weft::telemetry {
namespace {

constexpr std::chrono::milliseconds kBetweenDraws{100};
constexpr size_t kDefaultWidth = 100;

std::atomic<int> terminal_fd{-1};

size_t terminal_width() {
  winsize size{};
  if (terminal() < 0 || ioctl(terminal(), TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
    return kDefaultWidth;
  return size.ws_col;
}

std::string checkpoint_text(int64_t step, double seconds) {
  return fmt::format("step {}: checkpoint saved in {}", step, human_duration(seconds));
}

// "513 TFLOP/s 52% MFU"; empty: not known.
std::string speed_text(const Pace& pace) {
  if (pace.smooth_tflops <= 0) return "";
  const std::string speed = pace.smooth_tflops >= 1
                                ? fmt::format("{:.3g} TFLOP/s", pace.smooth_tflops)
                                : fmt::format("{:.3g} GFLOP/s", 1e3 * pace.smooth_tflops);
  return pace.smooth_mfu > 0 ? fmt::format("{} {:.0f}% MFU", speed, 100 * pace.smooth_mfu) : speed;
}

}  // namespace

void set_terminal(int fd) {
  terminal_fd = fd;
}
int terminal() {
  return terminal_fd;
}

void write_to_stderr(const std::string& text) {
  for (size_t done = 0; done < text.size();) {
    const ssize_t n = write(STDERR_FILENO, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    done += static_cast<size_t>(n);
  }
}

std::string progress_text(const StepMetrics& metrics, const Pace& pace, size_t width) {
  const double share = pace.total_steps > 0 ? 100.0 * static_cast<double>(metrics.step) /
                                                  static_cast<double>(pace.total_steps)
                                            : 0;
  std::vector<std::string> parts = {
      fmt::format("step {}/{}", metrics.step, pace.total_steps),
      fmt::format("{:.0f}%", share),
      fmt::format("loss {:.4f}", metrics.loss),
      human_count(pace.smooth_tokens_per_second) + " tokens/s",
      speed_text(pace),
      std::isfinite(pace.seconds_left) && metrics.step < pace.total_steps
          ? "ETA " + human_duration(pace.seconds_left)
          : "",
      pace.memory_peak_bytes > 0 ? human_bytes(static_cast<double>(pace.memory_peak_bytes)) : "",
      fmt::format("lr {:.3g}", metrics.lr),
      fmt::format("norm {:.3g}", metrics.grad_norm),
      fmt::format("epoch {:.2f}", metrics.epoch)};
  if (metrics.skipped > 0)
    parts.insert(parts.begin() + 3, fmt::format("{} skipped", metrics.skipped));
  std::string text;
  for (const std::string& part : parts) {
    const std::string longer = text.empty() || part.empty() ? text + part : text + "  " + part;
    if (longer.size() > width && !text.empty()) break;
    text = longer;
  }
  return text.substr(0, width);
}

std::string evaluation_text(int64_t step, const Json& figures) {
  std::vector<std::string> parts;
  for (const auto& [name, value] : figures.as_object()) {
    if (!value.is_number()) continue;
    if (name == "accuracy") {
      parts.push_back(fmt::format("accuracy {:.1f} %", 100 * value.as_double()));
    } else if (value.is_int()) {
      parts.push_back(fmt::format("{} {}", name, value.as_int()));
    } else {
      parts.push_back(fmt::format("{} {:.4g}", name, value.as_double()));
    }
  }
  return fmt::format("step {}: held-out {}", step, fmt::join(parts, ", "));
}

LiveLine::LiveLine(Write write, std::function<size_t()> width)
    : write_(std::move(write)), width_(std::move(width)) {
  log::set_before_line([this] {
    std::lock_guard lock(mutex_);
    clear();
  });
}

LiveLine::~LiveLine() {
  log::set_before_line({});
  finish();
}

void LiveLine::start(int64_t step, int64_t total_steps) {
  std::lock_guard lock(mutex_);
  draw(fmt::format("step {}/{}  starting", step, total_steps));
}

void LiveLine::step(const StepMetrics& metrics, const Pace& pace) {
  std::lock_guard lock(mutex_);
  const size_t width = width_();
  line_ = progress_text(metrics, pace, width > 1 ? width - 1 : 1);
  const auto now = std::chrono::steady_clock::now();
  if (now - last_draw_ < kBetweenDraws && metrics.step != pace.total_steps) return;
  last_draw_ = now;
  draw(line_);
}

void LiveLine::evaluation(int64_t step, const Json& figures) {
  print_above(evaluation_text(step, figures));
}

void LiveLine::checkpoint(int64_t step, double seconds) {
  print_above(checkpoint_text(step, seconds));
}

void LiveLine::finish() {
  std::lock_guard lock(mutex_);
  if (!on_screen_) return;
  draw(line_);
  write_("\n");
  on_screen_ = false;
}

void LiveLine::print_above(const std::string& line) {
  std::lock_guard lock(mutex_);
  clear();
  write_(line + "\n");
  draw(line_);
}

// Return to the line's start, text, erase what an older, longer text left.
void LiveLine::draw(const std::string& text) {
  line_ = text;
  write_("\r" + text + "\x1b[K");
  on_screen_ = true;
}

void LiveLine::clear() {
  if (on_screen_) write_("\r\x1b[K");
  on_screen_ = false;
}

void PlainLines::start(int64_t, int64_t) {
  first_ = true;
}

void PlainLines::step(const StepMetrics& metrics, const Pace& pace) {
  const bool due = first_ || metrics.step % every_ == 0 || metrics.step == pace.total_steps;
  first_ = false;
  if (due) write_(progress_text(metrics, pace, std::string::npos) + "\n");
}

void PlainLines::evaluation(int64_t step, const Json& figures) {
  write_(evaluation_text(step, figures) + "\n");
}

void PlainLines::checkpoint(int64_t step, double seconds) {
  write_(checkpoint_text(step, seconds) + "\n");
}

std::unique_ptr<Sink> make_progress(const LogConfig& config) {
  const bool live = config.progress == Progress::live ||
                    (config.progress == Progress::automatic && terminal() >= 0);
  if (config.progress == Progress::none) return nullptr;
  if (live) return std::make_unique<LiveLine>(write_to_stderr, terminal_width);
  return std::make_unique<PlainLines>(write_to_stderr, config.every);
}

}  // namespace weft::telemetry
