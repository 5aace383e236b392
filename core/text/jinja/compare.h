// Truth, equality and order of values, as Python has them.
#pragma once

#include "core/text/jinja/operators.h"
#include "core/text/jinja/value.h"

namespace weft::text::jinja {

bool is_true(const Value& value);
bool equal(const Value& a, const Value& b, Meter& meter);
// a < b. Throws for types that have no order.
bool less(const Value& a, const Value& b, Meter& meter);

// One link of a chain of comparisons: equal ... not_in.
bool holds(Operator op, const Value& a, const Value& b, Meter& meter);

// The value of a key; null when it is absent. Throws for keys that Python cannot hash.
const Value* find_key(const Dict& dict, const Value& key, Meter& meter);
void require_hashable(const Value& key);
void put(Items& items, Value key, Value value, Meter& meter);  // replaces or appends

// len(); empty when the value has none.
std::optional<int64_t> length_of(const Value& value, Meter& meter);
// What iterating gives; an Iterator is used up by it. `what` says in the error what wanted it.
Values iterate(const Value& value, Meter& meter, const char* what = "iterating");
bool is_iterable(const Value& value);
// `item in container`.
bool contains(const Value& container, const Value& item, Meter& meter);

// Throws the error of using an undefined value; does nothing for others.
void require_defined(const Value& value);

}  // namespace weft::text::jinja
