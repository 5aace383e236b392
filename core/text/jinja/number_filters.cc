// Filters of numbers, and those that make numbers.
#include <algorithm>
#include <cmath>

#include "core/text/jinja/compare.h"
#include "core/text/jinja/evaluator.h"
#include "core/text/jinja/filters.h"
#include "core/text/jinja/operators.h"
#include "core/text/jinja/strings.h"

namespace weft::text::jinja {
namespace {

std::optional<int64_t> truncated(double value) {
  if (!(std::fabs(value) < 9.2e18)) return std::nullopt;
  return static_cast<int64_t>(value);
}

Value to_integer(Evaluator&, const Value& input, const Arguments& arguments) {
  const auto given = arguments.bind("int", {"default", "base"});
  require_defined(input);
  const Value otherwise = given[0] ? *given[0] : Value(int64_t{0});
  const int64_t base = integer_argument(given[1], 10, "base");
  if (base < 2 || base > 36) template_error("int: the base must be between 2 and 36");
  if (auto integer = input.integer()) return *integer;
  if (const double* real = input.get<double>()) {
    if (auto integer = truncated(*real)) return *integer;
    if (std::isinf(*real)) template_error("int: infinity has no integer");
    return otherwise;
  }
  if (!input.is_string()) return otherwise;
  if (auto integer = parse_integer(input.text(), static_cast<int>(base))) return *integer;
  if (auto real = parse_float(input.text()))
    if (auto integer = truncated(*real)) return *integer;
  return otherwise;
}

Value to_real(Evaluator&, const Value& input, const Arguments& arguments) {
  const auto given = arguments.bind("float", {"default"});
  require_defined(input);
  if (auto number = input.number()) return *number;
  if (input.is_string())
    if (auto number = parse_float(input.text())) return *number;
  return given[0] ? *given[0] : Value(0.0);
}

Value absolute(Evaluator&, const Value& input, const Arguments& arguments) {
  arguments.bind("abs", {});
  require_defined(input);
  if (const double* real = input.get<double>()) return std::fabs(*real);
  if (auto integer = input.integer()) return *integer < 0 ? negated(*integer) : Value(*integer);
  template_error("abs of a value of type '{}'", input.type_name());
}

// Python's round: the decimal text of the exact value, half to even.
double rounded_to(double value, int64_t digits) {
  if (!std::isfinite(value) || digits > 300) return value;
  if (digits >= 0) return *parse_float(fmt::format("{:.{}f}", value, digits));
  const double scale = std::pow(10.0, static_cast<double>(-digits));
  return std::isinf(scale) ? std::copysign(0.0, value) : std::nearbyint(value / scale) * scale;
}

// To tens, hundreds, ...; half to even.
int64_t rounded_to_tens(int64_t value, int64_t zeros) {
  if (zeros > 18) return 0;
  int64_t unit = 1;
  for (int64_t i = 0; i < zeros; ++i) unit *= 10;
  const int64_t rest = ((value % unit) + unit) % unit, below = value - rest;
  const bool up = rest > unit - rest || (rest == unit - rest && (below / unit) % 2 != 0);
  return up ? below + unit : below;
}

Value round(Evaluator&, const Value& input, const Arguments& arguments) {
  const auto given = arguments.bind("round", {"precision", "method"});
  require_defined(input);
  const int64_t precision = integer_argument(given[0], 0, "precision");
  const std::string method = given[1] && given[1]->is_string() ? given[1]->text() : "common";
  const auto number = input.number();
  if (!number) template_error("round of a value of type '{}'", input.type_name());
  if (method == "common") {
    if (input.integer() && precision >= 0) return *input.integer();
    if (input.integer()) return rounded_to_tens(*input.integer(), -precision);
    return rounded_to(*number, precision);
  }
  if (method != "ceil" && method != "floor")
    template_error("round: the method must be common, ceil or floor");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (!std::isfinite(*number)) template_error("round of a number that is not finite");
  const double whole = method == "ceil" ? std::ceil(*number * scale) : std::floor(*number * scale);
  return (whole + 0.0) / scale;  // Python goes through an integer, which has no -0
}

Value length(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  arguments.bind("length", {});
  if (auto length = length_of(input, evaluator.meter())) return *length;
  template_error("a value of type '{}' has no length", input.type_name());
}

Value sum(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  const auto given = arguments.bind("sum", {"attribute", "start"});
  Value total = given[1] ? *given[1] : Value(int64_t{0});
  if (total.is_string()) template_error("sum cannot start from a string");
  for (const Value& item : iterate(input, evaluator.meter(), "summing"))
    total = arithmetic(Operator::add, total, attribute_at(evaluator, item, given[0]),
                       evaluator.meter());
  return total;
}

template <bool greatest>
Value extreme(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  const auto given = arguments.bind("min and max", {"case_sensitive", "attribute"});
  const bool case_sensitive = flag_argument(given[0]);
  const auto key = [&](const Value& item) {
    const Value value = attribute_at(evaluator, item, given[1]);
    return case_sensitive ? value : ignoring_case(evaluator, value);
  };
  const Values items = iterate(input, evaluator.meter(), "comparing");
  if (items.empty()) return Value::undefined("there is no least or greatest of nothing");
  const Value* best = &items[0];
  Value best_key = key(*best);
  for (size_t i = 1; i < items.size(); ++i) {
    Value item_key = key(items[i]);
    const bool better = greatest ? less(best_key, item_key, evaluator.meter())
                                 : less(item_key, best_key, evaluator.meter());
    if (better) best = &items[i], best_key = std::move(item_key);
  }
  return *best;
}

}  // namespace

const Filters& number_filters() {
  static const Filters kFilters = {
      {"int", to_integer}, {"float", to_real},      {"abs", absolute},
      {"round", round},    {"length", length},      {"count", length},
      {"sum", sum},        {"min", extreme<false>}, {"max", extreme<true>}};
  return kFilters;
}

}  // namespace weft::text::jinja
