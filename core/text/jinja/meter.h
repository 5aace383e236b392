// The budget of one rendering, and the error that ends it.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

#include "core/text/jinja.h"

namespace weft::text::jinja {

// Thrown inside the engine; Template turns it into weft::Error with the template's name and line.
class TemplateError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

template <class... Args>
[[noreturn]] void template_error(fmt::format_string<Args...> format, Args&&... args) {
  throw TemplateError(fmt::format(format, std::forward<Args>(args)...));
}

class Meter {
 public:
  explicit Meter(const Limits& limits) : limits_(limits) {}

  // Call before doing the work that is charged for.
  void charge(size_t steps) {
    steps_ += steps;
    if (steps_ > limits_.max_steps || steps > limits_.max_steps)
      template_error(
          "rendering needs more than {} steps: the template loops too long for this input",
          limits_.max_steps);
  }
  void check_size(size_t bytes) const {
    if (bytes > limits_.max_string_bytes)
      template_error("a text of {} bytes is larger than the limit of {}", bytes,
                     limits_.max_string_bytes);
  }
  void charge_bytes(size_t bytes) {
    check_size(bytes);
    charge(1 + bytes / 32);
  }
  const Limits& limits() const { return limits_; }

 private:
  Limits limits_;
  size_t steps_ = 0;
};

}  // namespace weft::text::jinja
