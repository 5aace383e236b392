// Jinja's filters. What gives a generator in Jinja (map, select, ...) gives an Iterator here, which
// is as true and as lengthless.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>

#include "core/text/jinja/object.h"

namespace weft::text::jinja {

using Filter = Value (*)(Evaluator& evaluator, const Value& input, const Arguments& arguments);
using Filters = std::unordered_map<std::string_view, Filter>;

// Throws for a filter that is not supported.
Value apply_filter(Evaluator& evaluator, const std::string& name, const Value& input,
                   const Arguments& arguments);

// By what they take; apply_filter looks in each.
const Filters& text_filters();      // text_filters.cc
const Filters& number_filters();    // number_filters.cc
const Filters& sequence_filters();  // sequence_filters.cc
const Filters& select_filters();  // select_filters.cc: those that apply filters, tests, attributes

// The parts of what `attribute=` names, "a.b.0", looked up one after another; the value itself when
// `path` is null or none.
Value attribute_at(Evaluator& evaluator, const Value& value, const Value* path);
// Strings compare without case unless asked for.
Value ignoring_case(Evaluator& evaluator, const Value& value);

// Arguments as numbers; `what` names the argument in errors.
int64_t integer_argument(const Value* value, int64_t otherwise, const char* what);
bool flag_argument(const Value* value, bool otherwise = false);

}  // namespace weft::text::jinja
