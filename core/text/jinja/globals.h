// The functions that every template has: range, dict, namespace, joiner, raise_exception,
// strftime_now.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/text/jinja/object.h"

namespace weft::text::jinja {

const std::vector<std::pair<std::string, Function::Body>>& global_functions();

}  // namespace weft::text::jinja
