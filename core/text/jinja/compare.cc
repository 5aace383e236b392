#include "core/text/jinja/compare.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/text/jinja/object.h"
#include "core/text/jinja/strings.h"
#include "core/text/jinja/unicode.h"

namespace weft::text::jinja {
namespace {

bool is_ordered_sequence(const Value& value) {
  return value.sequence(SequenceKind::list) || value.sequence(SequenceKind::tuple);
}

bool equal_sequences(const Sequence& a, const Sequence& b, Meter& meter) {
  if (a.kind != b.kind || a.items.size() != b.items.size()) return false;
  for (size_t i = 0; i < a.items.size(); ++i)
    if (!equal(a.items[i], b.items[i], meter)) return false;
  return true;
}

bool equal_dicts(const Dict& a, const Dict& b, Meter& meter) {
  if (a.items.size() != b.items.size()) return false;
  for (const auto& [key, value] : a.items) {
    const Value* other = find_key(b, key, meter);
    if (!other || !equal(value, *other, meter)) return false;
  }
  return true;
}

bool equal_ranges(const Range& a, const Range& b) {
  if (a.size() != b.size()) return false;
  return a.size() == 0 || (a.start == b.start && (a.size() == 1 || a.step == b.step));
}

bool less_sequences(const Sequence& a, const Sequence& b, Meter& meter) {
  const size_t common = std::min(a.items.size(), b.items.size());
  for (size_t i = 0; i < common; ++i)
    if (!equal(a.items[i], b.items[i], meter)) return less(a.items[i], b.items[i], meter);
  return a.items.size() < b.items.size();
}

}  // namespace

bool is_true(const Value& value) {
  if (value.is_undefined() || value.is_none()) return false;
  if (auto number = value.number()) return *number != 0;
  if (const String* s = value.get<String>()) return !s->text.empty();
  if (const Sequence* s = value.get<Sequence>()) return !s->items.empty();
  if (const Dict* d = value.get<Dict>()) return !d->items.empty();
  if (const Range* r = value.get<Range>()) return r->size() != 0;
  return true;  // iterators too, even empty ones; a loop has a length, but never 0
}

bool equal(const Value& a, const Value& b, Meter& meter) {
  meter.charge(1);
  if (const String* s = a.get<String>()) {
    const String* t = b.get<String>();
    if (!t || s->text.size() != t->text.size()) return false;
    meter.charge_bytes(s->text.size());
    return s->text == t->text;
  }
  const auto* i = a.get<int64_t>();
  const auto* j = b.get<int64_t>();
  if (i && j) return *i == *j;
  const auto x = a.number(), y = b.number();
  if (x && y) return *x == *y;
  if (a.is_undefined() || a.is_none()) return a.is_undefined() ? b.is_undefined() : b.is_none();
  if (const Sequence* s = a.get<Sequence>())
    return b.get<Sequence>() && equal_sequences(*s, *b.get<Sequence>(), meter);
  if (const Dict* d = a.get<Dict>()) return b.get<Dict>() && equal_dicts(*d, *b.get<Dict>(), meter);
  if (const Range* r = a.get<Range>()) return b.get<Range>() && equal_ranges(*r, *b.get<Range>());
  return a.identity() && a.identity() == b.identity();
}

bool less(const Value& a, const Value& b, Meter& meter) {
  meter.charge(1);
  const auto* i = a.get<int64_t>();
  const auto* j = b.get<int64_t>();
  if (i && j) return *i < *j;
  const auto x = a.number(), y = b.number();
  if (x && y) return *x < *y;
  if (a.is_string() && b.is_string()) {
    meter.charge_bytes(std::min(a.text().size(), b.text().size()));
    return a.text() < b.text();  // bytes of UTF-8 are in the order of code points
  }
  if (is_ordered_sequence(a) && is_ordered_sequence(b) &&
      a.get<Sequence>()->kind == b.get<Sequence>()->kind)
    return less_sequences(*a.get<Sequence>(), *b.get<Sequence>(), meter);
  require_defined(a);
  require_defined(b);
  template_error("values of type '{}' and '{}' have no order", a.type_name(), b.type_name());
}

bool holds(Operator op, const Value& a, const Value& b, Meter& meter) {
  switch (op) {
    case Operator::equal:
      return equal(a, b, meter);
    case Operator::not_equal:
      return !equal(a, b, meter);
    case Operator::less:
      return less(a, b, meter);
    case Operator::greater:
      return less(b, a, meter);
    case Operator::less_equal:
      return less(a, b, meter) || equal(a, b, meter);
    case Operator::greater_equal:
      return less(b, a, meter) || equal(a, b, meter);
    case Operator::in:
      return contains(b, a, meter);
    case Operator::not_in:
      return !contains(b, a, meter);
    default:
      CHECK(false, "operator {} is no comparison", static_cast<int>(op));
  }
  return false;
}

void require_hashable(const Value& key) {
  if (const Sequence* tuple = key.sequence(SequenceKind::tuple)) {
    for (const Value& item : tuple->items) require_hashable(item);
    return;
  }
  if (key.get<Sequence>() || key.get<Dict>())
    template_error("a value of type '{}' cannot be a key", key.type_name());
}

const Value* find_key(const Dict& dict, const Value& key, Meter& meter) {
  require_hashable(key);
  meter.charge(1 + dict.items.size() / 8);
  for (const auto& [name, value] : dict.items)
    if (equal(name, key, meter)) return &value;
  return nullptr;
}

void put(Items& items, Value key, Value value, Meter& meter) {
  require_hashable(key);
  for (auto& [known, old] : items)
    if (equal(known, key, meter)) return void(old = std::move(value));
  items.emplace_back(std::move(key), std::move(value));
}

std::optional<int64_t> length_of(const Value& value, Meter& meter) {
  if (value.is_undefined()) return 0;
  if (const String* s = value.get<String>()) {
    meter.charge_bytes(s->text.size());
    return static_cast<int64_t>(count_code_points(s->text));
  }
  if (const Sequence* s = value.get<Sequence>()) return static_cast<int64_t>(s->items.size());
  if (const Dict* d = value.get<Dict>()) return static_cast<int64_t>(d->items.size());
  if (const Range* r = value.get<Range>()) return r->size();
  if (auto* loop = dynamic_cast<Loop*>(value.object())) return static_cast<int64_t>(loop->size());
  return std::nullopt;
}

bool is_iterable(const Value& value) {
  return value.is_undefined() || value.is_string() || value.get<Sequence>() || value.get<Dict>() ||
         value.get<Range>() || value.iterator();
}

Values iterate(const Value& value, Meter& meter, const char* what) {
  Values items;
  if (value.is_undefined()) return items;
  if (const Sequence* s = value.get<Sequence>()) {
    meter.charge(s->items.size());
    return s->items;
  }
  if (Iterator* iterator = value.iterator()) {
    meter.charge(iterator->items.size());
    return std::exchange(iterator->items, {});
  }
  if (const Dict* d = value.get<Dict>()) {
    meter.charge(d->items.size());
    for (const auto& item : d->items) items.push_back(item.first);
    return items;
  }
  if (const Range* r = value.get<Range>()) {
    meter.charge(static_cast<size_t>(r->size()));
    for (int64_t i = 0; i < r->size(); ++i) items.emplace_back(r->start + i * r->step);
    return items;
  }
  if (value.is_string()) {
    meter.charge(value.text().size());
    for (std::string_view character : split_code_points(value.text()))
      items.emplace_back(std::string(character));
    return items;
  }
  template_error("{} a value of type '{}', which is not iterable", what, value.type_name());
}

bool contains(const Value& container, const Value& item, Meter& meter) {
  if (container.is_string()) {
    require_defined(item);
    if (!item.is_string())
      template_error("'in' of a string needs a string, not a value of type '{}'", item.type_name());
    meter.charge_bytes(container.text().size());
    return find_first(container.text(), item.text()) != std::string_view::npos;
  }
  if (const Dict* dict = container.get<Dict>()) return find_key(*dict, item, meter) != nullptr;
  const Values* items = nullptr;
  Values made;
  if (const Sequence* sequence = container.get<Sequence>())
    items = &sequence->items;
  else
    made = iterate(container, meter, "looking for a value in"), items = &made;
  return std::any_of(items->begin(), items->end(),
                     [&](const Value& candidate) { return equal(candidate, item, meter); });
}

void require_defined(const Value& value) {
  if (const Undefined* undefined = value.get<Undefined>())
    template_error("{}", undefined->why ? *undefined->why : "a value is undefined");
}

}  // namespace weft::text::jinja
