// Evaluator's expressions.
#include "core/base/error.h"
#include "core/text/jinja/compare.h"
#include "core/text/jinja/evaluator.h"
#include "core/text/jinja/filters.h"
#include "core/text/jinja/methods.h"
#include "core/text/jinja/operators.h"
#include "core/text/jinja/printing.h"
#include "core/text/jinja/strings.h"
#include "core/text/jinja/tests.h"

namespace weft::text::jinja {

Value Evaluator::evaluate(const Expression& expression, const ScopePtr& scope, const Value* body) {
  meter_.charge(1);
  line_ = expression.line;
  const Expressions& operands = expression.operands;
  switch (expression.kind) {
    case ExpressionKind::constant:
      return expression.constant;
    case ExpressionKind::variable:
      return evaluate_variable(expression, scope);
    case ExpressionKind::attribute: {
      const Deeper deeper(*this);
      return attribute(evaluate(*operands[0], scope), expression.name);
    }
    default:
      return evaluate_compound(expression, scope, body);
  }
}

Value Evaluator::evaluate_compound(const Expression& expression, const ScopePtr& scope,
                                   const Value* body) {
  const Deeper deeper(*this);
  const Expressions& operands = expression.operands;
  switch (expression.kind) {
    case ExpressionKind::list:
      return Value::list(evaluate_all(operands, scope));
    case ExpressionKind::tuple:
      return Value::tuple(evaluate_all(operands, scope));
    case ExpressionKind::dict:
      return evaluate_dict(expression, scope);
    case ExpressionKind::item: {
      const Value object = evaluate(*operands[0], scope);
      return item(object, evaluate(*operands[1], scope));
    }
    case ExpressionKind::slice:
      return evaluate_slice(expression, scope);
    case ExpressionKind::call:
      return evaluate_call(expression, scope);
    case ExpressionKind::filter:
      return evaluate_filter(expression, scope, body);
    case ExpressionKind::test:
      return evaluate_test(expression, scope);
    case ExpressionKind::negate:
      return negated(evaluate(*operands[0], scope));
    case ExpressionKind::positive:
      return negated(negated(evaluate(*operands[0], scope)));
    case ExpressionKind::binary: {
      const Value left = evaluate(*operands[0], scope);
      return arithmetic(expression.operators[0], left, evaluate(*operands[1], scope), meter_);
    }
    case ExpressionKind::comparison:
      return evaluate_comparison(expression, scope);
    case ExpressionKind::concatenate:
      return evaluate_concatenation(expression, scope);
    case ExpressionKind::logical_not:
      return !is_true(evaluate(*operands[0], scope));
    case ExpressionKind::logical_and: {
      Value left = evaluate(*operands[0], scope);
      return is_true(left) ? evaluate(*operands[1], scope) : left;
    }
    case ExpressionKind::logical_or: {
      Value left = evaluate(*operands[0], scope);
      return is_true(left) ? left : evaluate(*operands[1], scope);
    }
    case ExpressionKind::conditional:
      return evaluate_conditional(expression, scope);
    default:
      CHECK(false, "an expression of kind {}", static_cast<int>(expression.kind));
  }
  return {};
}

Values Evaluator::evaluate_all(const Expressions& expressions, const ScopePtr& scope) {
  Values values;
  values.reserve(expressions.size());
  for (const auto& expression : expressions) values.push_back(evaluate(*expression, scope));
  return values;
}

Value Evaluator::evaluate_dict(const Expression& expression, const ScopePtr& scope) {
  const Expressions& operands = expression.operands;
  Items items;
  for (size_t i = 0; i < operands.size(); i += 2) {
    Value key = evaluate(*operands[i], scope);
    put(items, std::move(key), evaluate(*operands[i + 1], scope), meter_);
  }
  return Value::dict(std::move(items));
}

Value Evaluator::evaluate_variable(const Expression& expression, const ScopePtr& scope) {
  if (const Value* found = find(scope, expression.name)) return *found;
  return Value::undefined(fmt::format("'{}' is undefined", expression.name));
}

Value Evaluator::evaluate_slice(const Expression& expression, const ScopePtr& scope) {
  const Value value = evaluate(*expression.operands[0], scope);
  Value bounds[3];
  const Value* given[3] = {};
  for (size_t i = 0; i < 3; ++i) {
    const ExpressionPtr& bound = expression.operands[i + 1];
    if (!bound) continue;
    bounds[i] = evaluate(*bound, scope);
    given[i] = &bounds[i];
  }
  return sliced(value, given[0], given[1], given[2], meter_);
}

Value Evaluator::evaluate_call(const Expression& expression, const ScopePtr& scope) {
  const Expression& callee = *expression.operands[0];
  if (callee.kind != ExpressionKind::attribute) {
    const Value function = evaluate(callee, scope);
    const Arguments arguments = evaluate_arguments(expression.arguments, scope);
    line_ = expression.line;
    return call(function, arguments);
  }
  const Value self = evaluate(*callee.operands[0], scope);
  require_defined(self);
  const bool is_method = method_status(self, callee.name) == MethodStatus::supported;
  const Value function = is_method ? Value() : attribute(self, callee.name);
  const Arguments arguments = evaluate_arguments(expression.arguments, scope);
  line_ = expression.line;
  return is_method ? call_method(*this, self, callee.name, arguments) : call(function, arguments);
}

Arguments Evaluator::evaluate_arguments(const CallArguments& given, const ScopePtr& scope) {
  Arguments arguments;
  arguments.positional = evaluate_all(given.positional, scope);
  for (const auto& [name, expression] : given.named) {
    if (arguments.find(name)) template_error("the argument '{}' was given twice", name);
    arguments.named.emplace_back(name, evaluate(*expression, scope));
  }
  if (given.spread) {
    Values more = iterate(evaluate(*given.spread, scope), meter_, "spreading");
    arguments.positional.insert(arguments.positional.end(), more.begin(), more.end());
  }
  if (given.spread_named) {
    const Value more = evaluate(*given.spread_named, scope);
    const Dict* dict = more.get<Dict>();
    if (!dict) template_error("** needs a dict, not a value of type '{}'", more.type_name());
    for (const auto& [name, value] : dict->items) {
      if (!name.is_string() || arguments.find(name.text()))
        template_error("** with a key that is no string, or an argument given twice");
      meter_.charge(1 + arguments.named.size() / 8);
      arguments.named.emplace_back(name.text(), value);
    }
  }
  return arguments;
}

Value Evaluator::evaluate_filter(const Expression& expression, const ScopePtr& scope,
                                 const Value* body) {
  const ExpressionPtr& operand = expression.operands[0];
  const Value input = operand ? evaluate(*operand, scope, body) : *body;
  const Arguments arguments = evaluate_arguments(expression.arguments, scope);
  line_ = expression.line;
  return apply_filter(*this, expression.name, input, arguments);
}

Value Evaluator::evaluate_test(const Expression& expression, const ScopePtr& scope) {
  const Value input = evaluate(*expression.operands[0], scope);
  const Arguments arguments = evaluate_arguments(expression.arguments, scope);
  line_ = expression.line;
  return apply_test(*this, expression.name, input, arguments);
}

Value Evaluator::evaluate_comparison(const Expression& expression, const ScopePtr& scope) {
  Value left = evaluate(*expression.operands[0], scope);
  for (size_t i = 0; i < expression.operators.size(); ++i) {
    Value right = evaluate(*expression.operands[i + 1], scope);
    if (!holds(expression.operators[i], left, right, meter_)) return false;
    left = std::move(right);
  }
  return true;
}

Value Evaluator::evaluate_concatenation(const Expression& expression, const ScopePtr& scope) {
  std::string text;
  for (const auto& operand : expression.operands) {
    const Value value = evaluate(*operand, scope);
    const std::string made = value.is_string() ? "" : to_text(value, meter_);
    const std::string& part = value.is_string() ? value.text() : made;
    meter_.check_size(text.size() + part.size());
    meter_.charge_bytes(part.size());
    text += part;
  }
  return Value(std::move(text));
}

Value Evaluator::evaluate_conditional(const Expression& expression, const ScopePtr& scope) {
  const Expressions& operands = expression.operands;
  if (is_true(evaluate(*operands[1], scope))) return evaluate(*operands[0], scope);
  if (operands[2]) return evaluate(*operands[2], scope);
  return Value::undefined(
      fmt::format("the inline if of line {} was false and has no else", expression.line));
}

Value Evaluator::attribute(const Value& object, const std::string& name) {
  require_defined(object);
  if (const Object* o = object.object()) {
    if (auto found = o->attribute(name)) return *found;
  }
  switch (method_status(object, name)) {
    case MethodStatus::supported:
      return Value::method(object, name);
    case MethodStatus::forbidden:
      return Value::undefined(
          fmt::format("the method '{}' would change a value: it is forbidden", name));
    case MethodStatus::unsupported:
      template_error("the method '{}' of type '{}' is not supported", name, object.type_name());
    case MethodStatus::absent:
      break;
  }
  if (const Dict* dict = object.get<Dict>())
    if (const Value* found = find_key(*dict, Value(name), meter_)) return *found;
  return Value::undefined(
      fmt::format("'{} object' has no attribute '{}'", object.type_name(), name));
}

Value Evaluator::item(const Value& object, const Value& key) {
  require_defined(object);
  if (const Dict* dict = object.get<Dict>()) {
    const bool unhashable = key.get<Dict>() || key.sequence(SequenceKind::list);
    const Value* found = unhashable ? nullptr : find_key(*dict, key, meter_);
    if (found) return *found;
  }
  if (key.is_string()) return attribute(object, key.text());
  const auto index = key.integer();
  const Sequence* sequence = object.get<Sequence>();
  const bool indexable = object.is_string() || object.get<Range>() ||
                         object.sequence(SequenceKind::list) ||
                         object.sequence(SequenceKind::tuple);
  if (index && indexable) {
    const int64_t length = *length_of(object, meter_);
    const int64_t at = *index < 0 ? *index + length : *index;
    if (at >= 0 && at < length) {
      if (sequence) return sequence->items[static_cast<size_t>(at)];
      if (const Range* range = object.get<Range>()) return range->start + at * range->step;
      return Value(slice_text(object.text(), {at, at + 1, 1}), object.get<String>()->markup);
    }
  }
  return Value::undefined(fmt::format("'{} object' has no element {}", object.type_name(),
                                      index ? std::to_string(*index) : key.type_name()));
}

}  // namespace weft::text::jinja
