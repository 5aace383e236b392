// Errors. Library code throws weft::Error; only launch/ ends the process, with the kind as exit
// code.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace weft {

// Values are the exit codes of sysexits.h and never change.
enum class ErrorKind {
  usage = 64,        // wrong command line or config
  bad_data = 65,     // a file was read, and what it says is wrong
  no_input = 66,     // a file is missing or unreadable
  unavailable = 69,  // this machine or build cannot do what was asked
  internal = 70,     // a broken invariant: our bug
  io = 74,           // reading or writing failed (disk full, permission)
  try_again = 75,    // interrupted after a committed checkpoint; start again to go on
};

// The message says what was being done, the values, the file and place, and what to do.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const noexcept { return kind_; }
  int exit_code() const noexcept { return static_cast<int>(kind_); }

 private:
  ErrorKind kind_;
};

// fail(ErrorKind::bad_data, "[gguf] {}: tensor '{}' ...", path, name)
template <class... Args>
[[noreturn]] void fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(kind, fmt::format(format, std::forward<Args>(args)...));
}

// Throws Error{internal} with the expression and its place. For invariants that no input can break.
[[noreturn]] void check_failed(const char* expression, const char* file, int line,
                               const std::string& detail);

}  // namespace weft

#define CHECK(condition, ...)                                                              \
  do {                                                                                     \
    if (!(condition))                                                                      \
      ::weft::check_failed(#condition, __FILE__, __LINE__, ::fmt::format("" __VA_ARGS__)); \
  } while (false)
