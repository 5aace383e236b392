// Values as text: Python's str(), repr() and json.dumps(). Bounded by the meter, because shared
// containers can be small in memory and endless on paper.
#pragma once

#include <optional>
#include <string>

#include "core/text/jinja/value.h"

namespace weft::text::jinja {

std::string to_text(const Value& value, Meter& meter);  // str()
std::string to_repr(const Value& value, Meter& meter);  // repr()

struct JsonStyle {
  bool ensure_ascii = false;
  std::optional<std::string> indent;  // one level
  std::string comma = ", ";
  std::string colon = ": ";
  bool sort_keys = false;
};
std::string to_json(const Value& value, const JsonStyle& style, Meter& meter);

}  // namespace weft::text::jinja
