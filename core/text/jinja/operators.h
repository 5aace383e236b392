// Arithmetic and slices.
#pragma once

#include "core/text/jinja/value.h"

namespace weft::text::jinja {

enum class Operator {
  add,
  subtract,
  multiply,
  divide,
  floor_divide,
  modulo,
  power,
  equal,
  not_equal,
  less,
  less_equal,
  greater,
  greater_equal,
  in,
  not_in
};

// add ... power; comparisons are in compare.h. Integers are of 64 bits: past them is an error.
Value arithmetic(Operator op, const Value& a, const Value& b, Meter& meter);
Value negated(const Value& value);

// value[start:stop:step]; the bounds are integers, none, or null pointers for none.
Value sliced(const Value& value, const Value* start, const Value* stop, const Value* step,
             Meter& meter);

}  // namespace weft::text::jinja
