// The methods of strings, lists and dicts (and loop.cycle, loop.changed).
#pragma once

#include <string>

#include "core/text/jinja/object.h"

namespace weft::text::jinja {

enum class MethodStatus {
  absent,  // Python has no such method either
  supported,
  forbidden,    // it would change the value
  unsupported,  // Python has it, this engine does not
};
MethodStatus method_status(const Value& self, const std::string& name);

// REQUIRES method_status() is supported.
Value call_method(Evaluator& evaluator, const Value& self, const std::string& name,
                  const Arguments& arguments);

}  // namespace weft::text::jinja
