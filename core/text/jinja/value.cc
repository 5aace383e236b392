#include "core/text/jinja/value.h"

#include <algorithm>

#include "core/text/jinja/object.h"

namespace weft::text::jinja {
namespace {

int nesting_of(const Values& items) {
  int deepest = 0;
  for (const Value& item : items) deepest = std::max(deepest, item.nesting());
  if (deepest >= kMaxNesting) template_error("lists nested deeper than {}", kMaxNesting);
  return deepest + 1;
}

template <class T>
const void* address(const T& alternative) {
  if constexpr (requires { alternative.get(); })
    return alternative.get();
  else
    return nullptr;
}

}  // namespace

int64_t Range::size() const {
  // Differences are taken unsigned: start and stop may lie at both ends of int64.
  if (step > 0)
    return start < stop
               ? static_cast<int64_t>((uint64_t(stop) - uint64_t(start) - 1) / uint64_t(step)) + 1
               : 0;
  return start > stop
             ? static_cast<int64_t>((uint64_t(start) - uint64_t(stop) - 1) / (0 - uint64_t(step))) +
                   1
             : 0;
}

Value::Value(std::string text, bool markup)
    : data_(std::make_shared<const String>(String{std::move(text), markup})) {}

Value Value::undefined(std::string why) {
  Value value;
  value.data_ = Undefined{std::make_shared<const std::string>(std::move(why))};
  return value;
}

Value Value::sequence(SequenceKind kind, Values items) {
  const int nesting = nesting_of(items);
  Value value;
  value.data_ = std::make_shared<const Sequence>(Sequence{kind, std::move(items), nesting});
  return value;
}

Value Value::dict(Items items) {
  int deepest = 0;
  for (const auto& [key, item] : items)
    deepest = std::max({deepest, key.nesting(), item.nesting()});
  if (deepest >= kMaxNesting) template_error("dicts nested deeper than {}", kMaxNesting);
  Value value;
  value.data_ = std::make_shared<const Dict>(Dict{std::move(items), deepest + 1});
  return value;
}

Value Value::range(int64_t start, int64_t stop, int64_t step) {
  Value value;
  value.data_ = std::make_shared<const Range>(Range{start, stop, step});
  return value;
}

Value Value::iterator(Values items) {
  const int nesting = nesting_of(items);
  Value value;
  value.data_ = std::make_shared<Iterator>(Iterator{std::move(items), nesting});
  return value;
}

Value Value::method(Value self, std::string name) {
  if (self.nesting() >= kMaxNesting) template_error("values nested deeper than {}", kMaxNesting);
  Value value;
  value.data_ = std::make_shared<const Method>(Method{std::move(self), std::move(name)});
  return value;
}

Value Value::from_json(const Json& json) {
  if (json.is_null()) return None{};
  if (json.is_bool()) return json.as_bool();
  if (json.is_int()) return json.as_int();
  if (json.is_double()) return json.as_double();
  if (json.is_string()) return json.as_string();
  if (json.is_array()) {
    Values items;
    items.reserve(json.as_array().size());
    for (const Json& item : json.as_array()) items.push_back(from_json(item));
    return list(std::move(items));
  }
  Items items;
  items.reserve(json.as_object().size());
  for (const auto& [key, item] : json.as_object()) items.emplace_back(Value(key), from_json(item));
  return dict(std::move(items));
}

Iterator* Value::iterator() const {
  auto* shared = std::get_if<std::shared_ptr<Iterator>>(&data_);
  return shared ? shared->get() : nullptr;
}

Object* Value::object() const {
  auto* object = std::get_if<Object*>(&data_);
  return object ? *object : nullptr;
}

const Sequence* Value::sequence(SequenceKind kind) const {
  const Sequence* sequence = get<Sequence>();
  return sequence && sequence->kind == kind ? sequence : nullptr;
}

std::optional<int64_t> Value::integer() const {
  if (const bool* b = get<bool>()) return *b;
  if (const int64_t* i = get<int64_t>()) return *i;
  return std::nullopt;
}

std::optional<double> Value::number() const {
  if (const double* d = get<double>()) return *d;
  if (auto i = integer()) return static_cast<double>(*i);
  return std::nullopt;
}

const char* Value::type_name() const {
  static constexpr const char* kSequences[] = {"list", "tuple", "dict_keys", "dict_values",
                                               "dict_items"};
  static constexpr const char* kNames[] = {"Undefined", "NoneType", "bool",   "int",
                                           "float",     "str",      "",       "dict",
                                           "range",     "iterator", "method", ""};
  if (const Sequence* s = get<Sequence>()) return kSequences[static_cast<int>(s->kind)];
  if (const Object* o = object()) return o->type_name();
  return kNames[data_.index()];
}

int Value::nesting() const {
  if (const Sequence* s = get<Sequence>()) return s->nesting;
  if (const Dict* d = get<Dict>()) return d->nesting;
  if (const Iterator* i = iterator()) return i->nesting;
  if (const Method* m = get<Method>()) return m->self.nesting() + 1;
  return 0;
}

const void* Value::identity() const {
  if (const Object* o = object()) return o;
  return std::visit([](const auto& alternative) { return address(alternative); }, data_);
}

}  // namespace weft::text::jinja
