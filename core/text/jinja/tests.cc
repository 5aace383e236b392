#include "core/text/jinja/tests.h"

#include <string_view>
#include <unordered_map>

#include "core/text/jinja/compare.h"
#include "core/text/jinja/evaluator.h"
#include "core/text/jinja/filters.h"
#include "core/text/jinja/operators.h"
#include "core/text/jinja/printing.h"
#include "core/text/jinja/unicode.h"

namespace weft::text::jinja {
namespace {

using Property = bool (*)(Evaluator&, const Value&);
using Relation = bool (*)(Evaluator&, const Value&, const Value&);

int64_t remainder(Evaluator& evaluator, const Value& value, const Value& divisor) {
  const Value result = arithmetic(Operator::modulo, value, divisor, evaluator.meter());
  if (auto integer = result.integer()) return *integer;
  if (auto number = result.number()) return *number == 0 ? 0 : *number == 1 ? 1 : 2;
  return 2;
}

template <int64_t rest>
bool halves_to(Evaluator& evaluator, const Value& value) {
  return remainder(evaluator, value, Value(int64_t{2})) == rest;
}

bool is_sequence(Evaluator&, const Value& value) {
  return value.is_undefined() || value.is_string() || value.get<Dict>() || value.get<Range>() ||
         value.sequence(SequenceKind::list) || value.sequence(SequenceKind::tuple);
}

bool is_callable(Evaluator&, const Value& value) {
  return value.is_undefined() || value.get<Method>() ||
         (value.object() && value.object()->callable());
}

bool is_same(Evaluator& evaluator, const Value& a, const Value& b) {
  if (a.identity() || b.identity()) {
    if (!a.is_string() || !b.is_string()) return a.identity() == b.identity();
  }
  return std::string_view(a.type_name()) == b.type_name() && equal(a, b, evaluator.meter());
}

template <bool (*property)(std::string_view)>
bool of_text(Evaluator& evaluator, const Value& value) {
  return property(to_text(value, evaluator.meter()));
}

template <Operator op>
bool compares(Evaluator& evaluator, const Value& a, const Value& b) {
  return holds(op, a, b, evaluator.meter());
}

const std::unordered_map<std::string_view, Property>& properties() {
  static const std::unordered_map<std::string_view, Property> kProperties = {
      {"defined", [](Evaluator&, const Value& v) { return !v.is_undefined(); }},
      {"undefined", [](Evaluator&, const Value& v) { return v.is_undefined(); }},
      {"none", [](Evaluator&, const Value& v) { return v.is_none(); }},
      {"boolean", [](Evaluator&, const Value& v) { return v.get<bool>() != nullptr; }},
      {"true", [](Evaluator&, const Value& v) { return v.get<bool>() && *v.get<bool>(); }},
      {"false", [](Evaluator&, const Value& v) { return v.get<bool>() && !*v.get<bool>(); }},
      {"integer", [](Evaluator&, const Value& v) { return v.get<int64_t>() != nullptr; }},
      {"float", [](Evaluator&, const Value& v) { return v.get<double>() != nullptr; }},
      {"number", [](Evaluator&, const Value& v) { return v.number().has_value(); }},
      {"string", [](Evaluator&, const Value& v) { return v.is_string(); }},
      {"mapping", [](Evaluator&, const Value& v) { return v.get<Dict>() != nullptr; }},
      {"iterable", [](Evaluator&, const Value& v) { return is_iterable(v); }},
      {"escaped",
       [](Evaluator&, const Value& v) { return v.is_string() && v.get<String>()->markup; }},
      {"sequence", is_sequence},
      {"callable", is_callable},
      {"odd", halves_to<1>},
      {"even", halves_to<0>},
      {"lower", of_text<all_lower>},
      {"upper", of_text<all_upper>}};
  return kProperties;
}

const std::unordered_map<std::string_view, Relation>& relations() {
  static const std::unordered_map<std::string_view, Relation> kRelations = {
      {"eq", compares<Operator::equal>},
      {"equalto", compares<Operator::equal>},
      {"==", compares<Operator::equal>},
      {"ne", compares<Operator::not_equal>},
      {"!=", compares<Operator::not_equal>},
      {"lt", compares<Operator::less>},
      {"lessthan", compares<Operator::less>},
      {"<", compares<Operator::less>},
      {"le", compares<Operator::less_equal>},
      {"<=", compares<Operator::less_equal>},
      {"gt", compares<Operator::greater>},
      {"greaterthan", compares<Operator::greater>},
      {">", compares<Operator::greater>},
      {"ge", compares<Operator::greater_equal>},
      {">=", compares<Operator::greater_equal>},
      {"in", compares<Operator::in>},
      {"sameas", is_same},
      {"divisibleby", [](Evaluator& evaluator, const Value& a, const Value& b) {
         return remainder(evaluator, a, b) == 0;
       }}};
  return kRelations;
}

}  // namespace

bool apply_test(Evaluator& evaluator, const std::string& name, const Value& value,
                const Arguments& arguments) {
  evaluator.meter().charge(1);
  if (const auto found = properties().find(name); found != properties().end()) {
    arguments.bind("the test '" + name + "'", {});
    return found->second(evaluator, value);
  }
  if (const auto found = relations().find(name); found != relations().end()) {
    const auto given = arguments.bind("the test '" + name + "'", {"other"}, 1);
    return found->second(evaluator, value, *given[0]);
  }
  template_error("the test '{}' is not supported", name);
}

}  // namespace weft::text::jinja
