// Tokens to syntax tree. Names of filters, tests and methods are checked when they are used, so
// that a template may mention what this engine lacks in branches that are never taken.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "core/text/jinja/ast.h"

namespace weft::text::jinja {

// Throws weft::Error{bad_data} with `where` and the line.
std::shared_ptr<const Ast> parse_template(std::string_view source, const std::string& where);

}  // namespace weft::text::jinja
