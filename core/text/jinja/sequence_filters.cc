// Filters of lists and dicts.
#include <algorithm>

#include "core/text/jinja/compare.h"
#include "core/text/jinja/evaluator.h"
#include "core/text/jinja/filters.h"
#include "core/text/jinja/strings.h"

namespace weft::text::jinja {
namespace {

Value first(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  arguments.bind("first", {});
  const Values items = iterate(input, evaluator.meter(), "taking the first of");
  return items.empty() ? Value::undefined("there is no first item of nothing") : items.front();
}

Value last(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  arguments.bind("last", {});
  if (input.iterator()) template_error("an iterator cannot be reversed to take its last item");
  require_defined(input);
  const Values items = iterate(input, evaluator.meter(), "taking the last of");
  return items.empty() ? Value::undefined("there is no last item of nothing") : items.back();
}

Value list(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  arguments.bind("list", {});
  return Value::list(iterate(input, evaluator.meter(), "listing"));
}

Value items(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  arguments.bind("items", {});
  if (input.is_undefined()) return Value::iterator({});
  const Dict* dict = input.get<Dict>();
  if (!dict) template_error("items needs a dict, not a value of type '{}'", input.type_name());
  evaluator.meter().charge(dict->items.size());
  Values pairs;
  for (const auto& [key, value] : dict->items) pairs.push_back(Value::tuple({key, value}));
  return Value::iterator(std::move(pairs));
}

Value reverse(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  arguments.bind("reverse", {});
  if (input.is_string()) {
    evaluator.meter().charge(input.text().size());
    return Value(reversed(input.text()), input.get<String>()->markup);
  }
  Values all = iterate(input, evaluator.meter(), "reversing");
  std::reverse(all.begin(), all.end());
  return input.iterator() ? Value::list(std::move(all)) : Value::iterator(std::move(all));
}

// Sorted by keys; stable, and each comparison is charged for.
Values sorted(Evaluator& evaluator, Values all, const Values& keys, bool backward) {
  std::vector<size_t> order(all.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return backward ? less(keys[b], keys[a], evaluator.meter())
                    : less(keys[a], keys[b], evaluator.meter());
  });
  Values result;
  result.reserve(all.size());
  for (size_t index : order) result.push_back(std::move(all[index]));
  return result;
}

Value sort(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  const auto given = arguments.bind("sort", {"reverse", "case_sensitive", "attribute"});
  const bool case_sensitive = flag_argument(given[1]);
  std::vector<Value> paths(1, given[2] ? *given[2] : Value(None{}));
  if (given[2] && given[2]->is_string()) {
    paths.clear();
    for (std::string_view path : split(given[2]->text(), ",", -1))
      paths.emplace_back(std::string(path));
  }
  Values all = iterate(input, evaluator.meter(), "sorting");
  Values keys;
  for (const Value& item : all) {
    Values parts;
    for (const Value& path : paths) {
      const Value part = attribute_at(evaluator, item, &path);
      parts.push_back(case_sensitive ? part : ignoring_case(evaluator, part));
    }
    keys.push_back(Value::list(std::move(parts)));
  }
  return Value::list(sorted(evaluator, std::move(all), keys, flag_argument(given[0])));
}

Value dictsort(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  const auto given = arguments.bind("dictsort", {"case_sensitive", "by", "reverse"});
  require_defined(input);
  const Dict* dict = input.get<Dict>();
  if (!dict) template_error("dictsort needs a dict, not a value of type '{}'", input.type_name());
  const std::string by = given[1] && given[1]->is_string() ? given[1]->text() : "key";
  if (by != "key" && by != "value") template_error("dictsort: 'by' must be key or value");
  Values pairs, keys;
  for (const auto& [key, value] : dict->items) {
    const Value& chosen = by == "key" ? key : value;
    keys.push_back(flag_argument(given[0]) ? chosen : ignoring_case(evaluator, chosen));
    pairs.push_back(Value::tuple({key, value}));
  }
  return Value::list(sorted(evaluator, std::move(pairs), keys, flag_argument(given[2])));
}

Value unique(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  const auto given = arguments.bind("unique", {"case_sensitive", "attribute"});
  Values kept, seen;
  for (const Value& item : iterate(input, evaluator.meter(), "looking for the unique items of")) {
    const Value part = attribute_at(evaluator, item, given[1]);
    const Value key = flag_argument(given[0]) ? part : ignoring_case(evaluator, part);
    require_hashable(key);
    const auto same = [&](const Value& other) { return equal(other, key, evaluator.meter()); };
    if (std::any_of(seen.begin(), seen.end(), same)) continue;
    seen.push_back(key);
    kept.push_back(item);
  }
  return Value::iterator(std::move(kept));
}

Value batch(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  const auto given = arguments.bind("batch", {"linecount", "fill_with"}, 1);
  const int64_t size = integer_argument(given[0], 1, "linecount");
  Values batches, batch;
  for (const Value& item : iterate(input, evaluator.meter(), "batching")) {
    if (static_cast<int64_t>(batch.size()) == size)
      batches.push_back(Value::list(std::exchange(batch, {})));
    batch.push_back(item);
  }
  const bool fills = given[1] && !given[1]->is_none();
  if (!batch.empty() && fills && static_cast<int64_t>(batch.size()) < size) {
    evaluator.meter().charge(static_cast<size_t>(size));
    batch.resize(static_cast<size_t>(size), *given[1]);
  }
  if (!batch.empty()) batches.push_back(Value::list(std::move(batch)));
  return Value::iterator(std::move(batches));
}

Value slices(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  const auto given = arguments.bind("slice", {"slices", "fill_with"}, 1);
  const int64_t count = integer_argument(given[0], 1, "slices");
  if (count == 0) template_error("slice into 0 parts");
  const Values all = iterate(input, evaluator.meter(), "slicing");
  if (count < 0) return Value::iterator({});
  evaluator.meter().charge(static_cast<size_t>(count));
  const auto length = static_cast<int64_t>(all.size());
  Values parts;
  auto at = all.begin();
  for (int64_t i = 0; i < count; ++i) {
    const bool extra = i < length % count;
    const auto end = at + length / count + (extra ? 1 : 0);
    Values part(at, end);
    at = end;
    if (!extra && given[1] && !given[1]->is_none()) part.push_back(*given[1]);
    parts.push_back(Value::list(std::move(part)));
  }
  return Value::iterator(std::move(parts));
}

Value otherwise(Evaluator&, const Value& input, const Arguments& arguments) {
  const auto given = arguments.bind("default", {"default_value", "boolean"});
  const bool replaced = input.is_undefined() || (flag_argument(given[1]) && !is_true(input));
  if (!replaced) return input;
  return given[0] ? *given[0] : Value("");
}

}  // namespace

const Filters& sequence_filters() {
  static const Filters kFilters = {
      {"first", first},     {"last", last},    {"list", list},         {"items", items},
      {"reverse", reverse}, {"sort", sort},    {"dictsort", dictsort}, {"unique", unique},
      {"batch", batch},     {"slice", slices}, {"default", otherwise}, {"d", otherwise}};
  return kFilters;
}

}  // namespace weft::text::jinja
