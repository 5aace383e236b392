#include "core/base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <mutex>

namespace weft::log {
namespace {

struct State {
  std::shared_ptr<spdlog::logger> logger = spdlog::stderr_color_mt("weft");
  int rank = 0;
  std::mutex mutex;  // of before_line
  std::function<void()> before_line;
  State() { logger->set_pattern("%^%l%$ %v"); }
};

State& state() {
  static State instance;
  return instance;
}

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::debug:
      return spdlog::level::debug;
    case Level::info:
      return spdlog::level::info;
    case Level::warn:
      return spdlog::level::warn;
    case Level::error:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

}  // namespace

void configure(Level level, int rank, int num_ranks) {
  State& s = state();
  s.rank = rank;
  s.logger->set_level(to_spdlog(level));
  if (num_ranks > 1) s.logger->set_pattern(fmt::format("%^%l%$ [rank {}] %v", rank));
}

void write(Level level, const std::string& message) {
  State& s = state();
  if (s.rank != 0 && level < Level::warn) return;
  std::lock_guard lock(s.mutex);
  if (s.before_line && s.logger->should_log(to_spdlog(level))) s.before_line();
  s.logger->log(to_spdlog(level), "{}", message);
}

void set_before_line(std::function<void()> hook) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.before_line = std::move(hook);
}

}  // namespace weft::log
