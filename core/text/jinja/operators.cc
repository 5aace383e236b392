#include "core/text/jinja/operators.h"

#include <cmath>

#include "core/text/jinja/compare.h"
#include "core/text/jinja/formatting.h"
#include "core/text/jinja/strings.h"

namespace weft::text::jinja {
namespace {

[[noreturn]] void overflow() {
  template_error("an integer past 64 bits: such numbers are not supported");
}

const char* symbol(Operator op) {
  static constexpr const char* kSymbols[] = {"+", "-", "*", "/", "//", "%", "**"};
  return kSymbols[static_cast<int>(op)];
}

int64_t power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) overflow();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) overflow();
  }
  return result;
}

// Rounds towards minus infinity, as Python's // and % do.
Value floor_division(Operator op, int64_t a, int64_t b) {
  if (b == 0) template_error("division by zero");
  if (b == -1) {
    if (op == Operator::modulo) return int64_t{0};
    if (a == INT64_MIN) overflow();
    return -a;
  }
  const int64_t remainder = a % b;
  const bool adjust = remainder != 0 && (remainder < 0) != (b < 0);
  if (op == Operator::modulo) return remainder + (adjust ? b : 0);
  return a / b - (adjust ? 1 : 0);
}

Value on_integers(Operator op, int64_t a, int64_t b) {
  int64_t result = 0;
  switch (op) {
    case Operator::add:
      if (__builtin_add_overflow(a, b, &result)) overflow();
      return result;
    case Operator::subtract:
      if (__builtin_sub_overflow(a, b, &result)) overflow();
      return result;
    case Operator::multiply:
      if (__builtin_mul_overflow(a, b, &result)) overflow();
      return result;
    case Operator::divide:
      if (b == 0) template_error("division by zero");
      return static_cast<double>(a) / static_cast<double>(b);
    case Operator::power:
      if (b >= 0) return power(a, b);
      if (a == 0) template_error("0 to a negative power");
      return std::pow(static_cast<double>(a), static_cast<double>(b));
    default:
      return floor_division(op, a, b);
  }
}

Value on_reals(Operator op, double a, double b) {
  switch (op) {
    case Operator::add:
      return a + b;
    case Operator::subtract:
      return a - b;
    case Operator::multiply:
      return a * b;
    case Operator::power: {
      if (a == 0 && b < 0) template_error("0 to a negative power");
      if (a < 0 && b != std::floor(b)) template_error("a complex number: they are not supported");
      const double result = std::pow(a, b);
      if (std::isinf(result) && std::isfinite(a) && std::isfinite(b))
        template_error("a float overflow");
      return result;
    }
    default:
      break;
  }
  if (b == 0) template_error("division by zero");
  if (op == Operator::divide) return a / b;
  double remainder = std::fmod(a, b);
  double quotient = (a - remainder) / b;
  if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b, quotient -= 1;
  if (op == Operator::modulo) return remainder == 0 ? std::copysign(0.0, b) : remainder;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double whole = std::floor(quotient);
  return quotient - whole > 0.5 ? whole + 1 : whole;
}

Value repeated(const Value& value, int64_t times, Meter& meter) {
  const size_t count = times > 0 ? static_cast<size_t>(times) : 0;
  if (const String* s = value.get<String>()) {
    if (s->text.empty() || count == 0) return Value("");
    if (count > meter.limits().max_string_bytes) meter.check_size(count);
    meter.charge_bytes(s->text.size() * count);
    std::string text;
    text.reserve(s->text.size() * count);
    for (size_t i = 0; i < count; ++i) text += s->text;
    return Value(std::move(text), s->markup);
  }
  const Sequence& sequence = *value.get<Sequence>();
  if (sequence.items.empty() || count == 0) return Value::sequence(sequence.kind, {});
  if (count > meter.limits().max_steps) meter.charge(count);
  meter.charge(sequence.items.size() * count);
  Values items;
  for (size_t i = 0; i < count; ++i)
    items.insert(items.end(), sequence.items.begin(), sequence.items.end());
  return Value::sequence(sequence.kind, std::move(items));
}

bool repeats(const Value& value) {
  return value.is_string() || value.sequence(SequenceKind::list) ||
         value.sequence(SequenceKind::tuple);
}

Value joined(const String& a, const String& b, Meter& meter) {
  meter.charge_bytes(a.text.size() + b.text.size());
  if (a.markup == b.markup) return Value(a.text + b.text, a.markup);
  Value value(a.markup ? a.text + html_escaped(b.text) : html_escaped(a.text) + b.text, true);
  meter.charge_bytes(value.text().size());
  return value;
}

Value joined(const Sequence& a, const Sequence& b, Meter& meter) {
  meter.charge(a.items.size() + b.items.size());
  Values items = a.items;
  items.insert(items.end(), b.items.begin(), b.items.end());
  return Value::sequence(a.kind, std::move(items));
}

std::optional<int64_t> bound(const Value* value) {
  if (!value || value->is_none()) return std::nullopt;
  require_defined(*value);
  if (auto integer = value->integer()) return integer;
  template_error("slices need integers, not a value of type '{}'", value->type_name());
}

Value sliced_range(const Range& range, const Slice& slice) {
  int64_t start = 0, stop = 0, step = 0;
  if (__builtin_mul_overflow(slice.start, range.step, &start) ||
      __builtin_add_overflow(range.start, start, &start) ||
      __builtin_mul_overflow(slice.stop, range.step, &stop) ||
      __builtin_add_overflow(range.start, stop, &stop) ||
      __builtin_mul_overflow(range.step, slice.step, &step))
    overflow();
  return Value::range(start, stop, step);
}

}  // namespace

Value arithmetic(Operator op, const Value& a, const Value& b, Meter& meter) {
  require_defined(a);
  const bool formats = op == Operator::modulo && a.is_string();
  if (!formats) require_defined(b);
  const auto i = a.integer(), j = b.integer();
  if (i && j) return on_integers(op, *i, *j);
  const auto x = a.number(), y = b.number();
  if (x && y) return on_reals(op, *x, *y);
  if (op == Operator::multiply && j && repeats(a)) return repeated(a, *j, meter);
  if (op == Operator::multiply && i && repeats(b)) return repeated(b, *i, meter);
  if (formats) return Value(percent_format(a.text(), b, meter));
  if (op == Operator::add && a.is_string() && b.is_string())
    return joined(*a.get<String>(), *b.get<String>(), meter);
  if (op == Operator::add && repeats(a) && repeats(b) && a.get<Sequence>() && b.get<Sequence>() &&
      a.get<Sequence>()->kind == b.get<Sequence>()->kind)
    return joined(*a.get<Sequence>(), *b.get<Sequence>(), meter);
  template_error("'{}' cannot be applied to values of type '{}' and '{}'", symbol(op),
                 a.type_name(), b.type_name());
}

Value negated(const Value& value) {
  require_defined(value);
  if (auto integer = value.integer()) {
    if (*integer == INT64_MIN) overflow();
    return -*integer;
  }
  if (const double* d = value.get<double>()) return -*d;
  template_error("'-' cannot be applied to a value of type '{}'", value.type_name());
}

Value sliced(const Value& value, const Value* start, const Value* stop, const Value* step,
             Meter& meter) {
  require_defined(value);
  const Sequence* sequence = value.get<Sequence>();
  const bool view =
      sequence && sequence->kind != SequenceKind::list && sequence->kind != SequenceKind::tuple;
  const Range* range = value.get<Range>();
  if (view || !(sequence || value.is_string() || range))
    template_error("a value of type '{}' cannot be sliced", value.type_name());
  const int64_t by = bound(step).value_or(1);
  if (by == 0) template_error("a slice's step cannot be zero");
  const int64_t length = *length_of(value, meter);
  const Slice slice = Slice::resolve(bound(start), bound(stop), by, length);
  if (range) return sliced_range(*range, slice);
  const size_t count = static_cast<size_t>(slice.size());
  if (value.is_string()) {
    meter.charge(static_cast<size_t>(length) / (by == 1 ? 64 : 1));
    return Value(slice_text(value.text(), slice), value.get<String>()->markup);
  }
  meter.charge(count);
  Values items;
  items.reserve(count);
  for (size_t i = 0; i < count; ++i)
    items.push_back(
        sequence->items[static_cast<size_t>(slice.start + static_cast<int64_t>(i) * slice.step)]);
  return Value::sequence(sequence->kind, std::move(items));
}

}  // namespace weft::text::jinja
