// Filters that look at each item by an attribute, a test or another filter.
#include <algorithm>

#include "core/text/jinja/compare.h"
#include "core/text/jinja/evaluator.h"
#include "core/text/jinja/filters.h"
#include "core/text/jinja/strings.h"
#include "core/text/jinja/tests.h"

namespace weft::text::jinja {
namespace {

// The arguments behind the first `count`, for the test or filter that they name.
Arguments behind(const Arguments& arguments, size_t count) {
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin(),
                        rest.positional.begin() + static_cast<std::ptrdiff_t>(count));
  return rest;
}

const std::string& name_argument(const Value& value, const char* what) {
  if (!value.is_string()) template_error("{} must be named by a string", what);
  return value.text();
}

Value map(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  if (!is_true(input)) return Value::iterator({});  // whatever its type
  Values results;
  if (arguments.positional.empty()) {
    const auto given = arguments.bind("map", {"attribute", "default"});
    if (!given[0]) template_error("map needs a filter or an attribute");
    const Values items = iterate(input, evaluator.meter(), "mapping");
    for (const Value& item : items) {
      Value value = attribute_at(evaluator, item, given[0]);
      const bool absent = value.is_undefined() && given[1] && !given[1]->is_none();
      results.push_back(absent ? *given[1] : std::move(value));
    }
    return Value::iterator(std::move(results));
  }
  const std::string& filter = name_argument(arguments.positional[0], "map's filter");
  const Arguments rest = behind(arguments, 1);
  for (const Value& item : iterate(input, evaluator.meter(), "mapping"))
    results.push_back(apply_filter(evaluator, filter, item, rest));
  return Value::iterator(std::move(results));
}

// select, reject, selectattr, rejectattr.
template <bool by_attribute, bool wanted>
Value select(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  if (!is_true(input)) return Value::iterator({});  // whatever its type
  const size_t test_at = by_attribute ? 1 : 0;
  if (arguments.positional.size() < test_at)
    template_error("selectattr and rejectattr need an attribute");
  const bool has_test = arguments.positional.size() > test_at;
  const Arguments rest = has_test ? behind(arguments, test_at + 1) : Arguments{};
  Values kept;
  for (const Value& item : iterate(input, evaluator.meter(), "selecting from")) {
    const Value value =
        by_attribute ? attribute_at(evaluator, item, &arguments.positional[0]) : item;
    const bool passes =
        has_test ? apply_test(evaluator, name_argument(arguments.positional[test_at], "a test"),
                              value, rest)
                 : is_true(value);
    if (passes == wanted) kept.push_back(item);
  }
  return Value::iterator(std::move(kept));
}

Value groupby(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  const auto given = arguments.bind("groupby", {"attribute", "default", "case_sensitive"}, 1);
  const auto part_of = [&](const Value& item) {
    const Value part = attribute_at(evaluator, item, given[0]);
    return part.is_undefined() && given[1] && !given[1]->is_none() ? *given[1] : part;
  };
  Arguments order;
  std::vector<std::pair<Value, Value>> keyed;  // key and item
  for (const Value& item : iterate(input, evaluator.meter(), "grouping"))
    keyed.emplace_back(
        flag_argument(given[2]) ? part_of(item) : ignoring_case(evaluator, part_of(item)), item);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return less(a.first, b.first, evaluator.meter());
  });
  Values groups;
  for (size_t begin = 0, end = 0; begin < keyed.size(); begin = end) {
    Values members;
    for (end = begin;
         end < keyed.size() && equal(keyed[end].first, keyed[begin].first, evaluator.meter());
         ++end)
      members.push_back(keyed[end].second);
    const Value key = part_of(members[0]);
    groups.push_back(Value::tuple({key, Value::list(std::move(members))}));
  }
  return Value::list(std::move(groups));
}

Value attr(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  const auto given = arguments.bind("attr", {"name"}, 1);
  require_defined(input);
  if (input.object()) return evaluator.attribute(input, name_argument(*given[0], "an attribute"));
  return Value::undefined("the filter attr finds only attributes, not items");
}

}  // namespace

const Filters& select_filters() {
  static const Filters kFilters = {{"map", map},
                                   {"select", select<false, true>},
                                   {"reject", select<false, false>},
                                   {"selectattr", select<true, true>},
                                   {"rejectattr", select<true, false>},
                                   {"groupby", groupby},
                                   {"attr", attr}};
  return kFilters;
}

}  // namespace weft::text::jinja
