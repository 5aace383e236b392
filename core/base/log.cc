#include "core/base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <mutex>

namespace weft::log {
namespace {

struct State {
  std::shared_ptr<spdlog::logger> logger = spdlog::stderr_color_mt("weft");
  int rank = 0, num_ranks = 1;
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

void write_line(Level level, int rank, const std::string& message) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  if (s.before_line && s.logger->should_log(to_spdlog(level))) s.before_line();
  if (s.num_ranks > 1)
    s.logger->log(to_spdlog(level), "[rank {}] {}", rank, message);
  else
    s.logger->log(to_spdlog(level), "{}", message);
}

}  // namespace

void configure(Level level, int rank, int num_ranks) {
  State& s = state();
  s.rank = rank;
  s.num_ranks = num_ranks;
  s.logger->set_level(to_spdlog(level));
}

void write(Level level, const std::string& message) {
  const int rank = state().rank;
  if (rank == 0 || level >= Level::warn) write_line(level, rank, message);
}

void error_of(int rank, const std::string& message) {
  write_line(Level::error, rank, message);
}

void set_before_line(std::function<void()> hook) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.before_line = std::move(hook);
}

}  // namespace weft::log
