// Jinja's tests: `value is odd`, `value is in list`.
#pragma once

#include <string>

#include "core/text/jinja/object.h"

namespace weft::text::jinja {

// Throws for a test that is not supported.
bool apply_test(Evaluator& evaluator, const std::string& name, const Value& value,
                const Arguments& arguments);

}  // namespace weft::text::jinja
