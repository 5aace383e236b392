#include "core/text/jinja/filters.h"

#include "core/text/jinja/compare.h"
#include "core/text/jinja/evaluator.h"
#include "core/text/jinja/strings.h"
#include "core/text/jinja/unicode.h"

namespace weft::text::jinja {

Value apply_filter(Evaluator& evaluator, const std::string& name, const Value& input,
                   const Arguments& arguments) {
  evaluator.meter().charge(1);
  for (const Filters* filters :
       {&text_filters(), &number_filters(), &sequence_filters(), &select_filters()}) {
    const auto found = filters->find(name);
    if (found != filters->end()) return found->second(evaluator, input, arguments);
  }
  template_error("the filter '{}' is not supported", name);
}

Value attribute_at(Evaluator& evaluator, const Value& value, const Value* path) {
  if (!path || path->is_none()) return value;
  if (!path->is_string()) return evaluator.item(value, *path);
  Value found = value;
  for (std::string_view part : split(path->text(), ".", -1)) {
    evaluator.meter().charge(1);
    const auto index = all_of(part, is_digit) ? parse_integer(part) : std::nullopt;
    found = evaluator.item(found, index ? Value(*index) : Value(std::string(part)));
  }
  return found;
}

Value ignoring_case(Evaluator& evaluator, const Value& value) {
  if (!value.is_string()) return value;
  evaluator.meter().charge_bytes(value.text().size());
  return Value(to_lower(value.text()));
}

int64_t integer_argument(const Value* value, int64_t otherwise, const char* what) {
  if (!value) return otherwise;
  require_defined(*value);
  if (auto integer = value->integer()) return *integer;
  template_error("'{}' must be an integer, not a value of type '{}'", what, value->type_name());
}

bool flag_argument(const Value* value, bool otherwise) {
  return value ? is_true(*value) : otherwise;
}

}  // namespace weft::text::jinja
