// Texts made of texts: replace, and Python's two ways to fill in, 'a %s' % value and 'a
// {}'.format(value), as far as templates go.
#pragma once

#include <string>
#include <string_view>

#include "core/text/jinja/object.h"

namespace weft::text::jinja {

// limit < 0: every occurrence.
std::string replaced(std::string_view text, std::string_view from, std::string_view to,
                     int64_t limit, Meter& meter);
// `values` is a tuple of values, one value, or a dict for %(name)s.
std::string percent_format(std::string_view text, const Value& values, Meter& meter);
// Fields {}, {0}, {name}, with .attribute and [item], !s and !r, and a format after a colon.
std::string brace_format(Evaluator& evaluator, std::string_view text, const Arguments& arguments);

}  // namespace weft::text::jinja
