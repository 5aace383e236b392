// Log lines on standard error. The implementation (spdlog) stays in log.cc. Lines carry the rank
// when there is more than one.
#pragma once

#include <fmt/core.h>

#include <functional>
#include <string>
#include <utility>

namespace weft::log {

enum class Level { debug, info, warn, error };

// Called once by launch/. With num_ranks > 1, info lines come from rank 0 only; warnings and errors
// from every rank, tagged.
void configure(Level level, int rank, int num_ranks);

void write(Level level, const std::string& message);
void error_of(int rank, const std::string& message);  // this rank speaks for another

// Called before a line is written, e.g. to clear a live line; empty: nothing is.
void set_before_line(std::function<void()> hook);

template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::debug, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::warn, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::error, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace weft::log
