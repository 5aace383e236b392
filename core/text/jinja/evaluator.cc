#include "core/text/jinja/evaluator.h"

#include <algorithm>

#include "core/text/jinja/compare.h"
#include "core/text/jinja/globals.h"
#include "core/text/jinja/methods.h"
#include "core/text/jinja/printing.h"

namespace weft::text::jinja {
namespace {

class Macro : public Object {
 public:
  Macro(const Statement& definition, ScopePtr scope)
      : definition_(definition), scope_(std::move(scope)) {}
  const char* type_name() const override { return "Macro"; }
  bool callable() const override { return true; }
  Value call(Evaluator& evaluator, const Arguments& arguments) override {
    return evaluator.call_macro(definition_, scope_, arguments);
  }
  std::optional<Value> attribute(const std::string& name) const override {
    if (name == "name") return Value(definition_.text);
    return std::nullopt;
  }

 private:
  const Statement& definition_;
  ScopePtr scope_;
};

}  // namespace

Evaluator::Evaluator(const Ast& ast, const RenderOptions& options)
    : ast_(ast), options_(options), meter_(options.limits) {
  for (auto& [name, function] : global_functions())
    globals_.emplace_back(name, Value(own(std::make_unique<Function>(function))));
}

Object* Evaluator::own(std::unique_ptr<Object> object) {
  objects_.push_back(std::move(object));
  return objects_.back().get();
}

Rendering Evaluator::run(const Json& variables) {
  auto given = std::make_shared<Scope>(nullptr);
  for (const auto& [name, value] : variables.as_object())
    given->variables.emplace_back(name, Value::from_json(value));
  output_ = &rendering_.text;
  execute(ast_.body, std::make_shared<Scope>(given));
  if (marks_lost_) rendering_.generated.clear();
  return std::move(rendering_);
}

Evaluator::Flow Evaluator::execute(const Block& block, const ScopePtr& scope) {
  for (const Statement& statement : block) {
    const Flow flow = execute(statement, scope);
    if (flow != Flow::normal) return flow;
  }
  return Flow::normal;
}

Evaluator::Flow Evaluator::execute(const Statement& statement, const ScopePtr& scope) {
  const Deeper deeper(*this);
  meter_.charge(1);
  line_ = statement.line;
  switch (statement.kind) {
    case StatementKind::text:
      write_text(statement.text);
      break;
    case StatementKind::output:
      write(evaluate(*statement.expression, scope));
      break;
    case StatementKind::branch:
      for (const Branch& branch : statement.branches)
        if (is_true(evaluate(*branch.condition, scope))) return execute(branch.body, scope);
      return execute(statement.otherwise, scope);
    case StatementKind::loop:
      return execute_loop(statement, scope);
    case StatementKind::set:
      assign(statement.target, evaluate(*statement.expression, scope), scope);
      break;
    case StatementKind::set_block:
      execute_set_block(statement, scope);
      break;
    case StatementKind::macro:
      set(scope, statement.text, Value(own(std::make_unique<Macro>(statement, scope))));
      break;
    case StatementKind::with: {
      auto inner = std::make_shared<Scope>(scope);
      for (const auto& [target, expression] : statement.assignments)
        assign(target, evaluate(*expression, scope), inner);
      return execute(statement.body, inner);
    }
    case StatementKind::filter: {
      const Value body(capture(statement.body, std::make_shared<Scope>(scope)));
      write(evaluate(*statement.expression, scope, &body));
      break;
    }
    case StatementKind::generation:
      execute_generation(statement, scope);
      break;
    case StatementKind::break_loop:
      return Flow::break_loop;
    case StatementKind::continue_loop:
      return Flow::continue_loop;
  }
  return Flow::normal;
}

Values Evaluator::loop_items(const Statement& statement, const ScopePtr& scope) {
  const Value iterable = evaluate(*statement.expression, scope);
  Values items = iterate(iterable, meter_, "looping over");
  if (!statement.condition) return items;
  Values kept;
  auto inner = std::make_shared<Scope>(scope);
  for (Value& item : items) {
    assign(statement.target, item, inner);
    if (is_true(evaluate(*statement.condition, inner))) kept.push_back(std::move(item));
  }
  return kept;
}

Evaluator::Flow Evaluator::execute_loop(const Statement& statement, const ScopePtr& scope) {
  Values items = loop_items(statement, scope);
  if (items.empty()) return execute(statement.otherwise, std::make_shared<Scope>(scope));
  auto owned = std::make_unique<Loop>(std::move(items), loop_depth_++);
  Loop* loop = owned.get();
  const Value loop_value(own(std::move(owned)));
  ScopePtr inner;
  bool completed = false;  // Jinja's else also runs when every iteration was left early
  for (size_t i = 0; i < loop->size(); ++i) {
    loop->move_to(i);
    if (inner && inner.use_count() == 1)
      inner->variables.clear();
    else
      inner = std::make_shared<Scope>(scope);
    set(inner, "loop", loop_value);
    assign(statement.target, loop->item(), inner);
    const Flow flow = execute(statement.body, inner);
    completed = completed || flow == Flow::normal;
    if (flow == Flow::break_loop) break;
  }
  loop->finish();
  --loop_depth_;
  if (completed) return Flow::normal;
  return execute(statement.otherwise, std::make_shared<Scope>(scope));
}

void Evaluator::execute_set_block(const Statement& statement, const ScopePtr& scope) {
  Value value(capture(statement.body, std::make_shared<Scope>(scope)));
  if (statement.expression) value = evaluate(*statement.expression, scope, &value);
  assign(statement.target, value, scope);
}

void Evaluator::execute_generation(const Statement& statement, const ScopePtr& scope) {
  const bool outermost = output_ == &rendering_.text;
  const size_t begin = output_->size();
  execute(statement.body, std::make_shared<Scope>(scope));
  if (outermost)
    rendering_.generated.push_back({begin, output_->size()});
  else
    marks_lost_ = true;
}

std::string Evaluator::capture(const Block& block, const ScopePtr& scope) {
  std::string text;
  std::string* outer = std::exchange(output_, &text);
  execute(block, scope);
  output_ = outer;
  return text;
}

void Evaluator::write(const Value& value) {
  if (value.is_string()) return write_text(value.text());
  write_text(to_text(value, meter_));
}

void Evaluator::write_text(std::string_view text) {
  meter_.check_size(output_->size() + text.size());
  meter_.charge_bytes(text.size());
  *output_ += text;
}

void Evaluator::assign(const Target& target, const Value& value, const ScopePtr& scope) {
  if (!target.attribute.empty()) {
    const Value* found = find(scope, target.name);
    auto* space = found ? dynamic_cast<Namespace*>(found->object()) : nullptr;
    if (!space)
      template_error("cannot assign to an attribute of '{}': it is no namespace", target.name);
    return space->set(target.attribute, value);
  }
  if (target.parts.empty()) return set(scope, target.name, value);
  require_defined(value);
  const Values items = iterate(value, meter_, "unpacking");
  if (items.size() != target.parts.size())
    template_error("cannot unpack {} values into {} names", items.size(), target.parts.size());
  for (size_t i = 0; i < items.size(); ++i) assign(target.parts[i], items[i], scope);
}

void Evaluator::set(const ScopePtr& scope, const std::string& name, Value value) {
  meter_.charge(1 + scope->variables.size() / 16);
  for (auto& [known, old] : scope->variables)
    if (known == name) return void(old = std::move(value));
  scope->variables.emplace_back(name, std::move(value));
}

const Value* Evaluator::find(const ScopePtr& scope, const std::string& name) {
  for (const Scope* at = scope.get(); at; at = at->parent.get()) {
    meter_.charge(at->variables.size() / 16);
    for (const auto& [known, value] : at->variables)
      if (known == name) return &value;
  }
  for (const auto& [known, value] : globals_)
    if (known == name) return &value;
  return nullptr;
}

Value Evaluator::call_macro(const Statement& macro, const ScopePtr& defined_in,
                            const Arguments& arguments) {
  const Deeper deeper(*this);
  auto scope = std::make_shared<Scope>(defined_in);
  const size_t count = macro.parameters.size();
  const size_t given = arguments.positional.size();
  if (given > count && !macro.takes_varargs)
    template_error("the macro '{}' takes {} arguments, {} were given", macro.text, count, given);
  for (size_t i = 0; i < count; ++i) {
    const Parameter& parameter = macro.parameters[i];
    const Value* named = arguments.find(parameter.name);
    if (named && i < given)
      template_error("the macro '{}' was given '{}' twice", macro.text, parameter.name);
    if (i < given)
      set(scope, parameter.name, arguments.positional[i]);
    else if (named)
      set(scope, parameter.name, *named);
    else if (parameter.otherwise)
      set(scope, parameter.name, evaluate(*parameter.otherwise, scope));
    else
      set(scope, parameter.name,
          Value::undefined(fmt::format("the parameter '{}' was not given", parameter.name)));
  }
  Items rest;
  for (const auto& [name, value] : arguments.named) {
    const auto takes = [&](const Parameter& parameter) { return parameter.name == name; };
    if (std::any_of(macro.parameters.begin(), macro.parameters.end(), takes)) continue;
    if (!macro.takes_kwargs)
      template_error("the macro '{}' takes no argument '{}'", macro.text, name);
    rest.emplace_back(Value(name), value);
  }
  if (macro.takes_kwargs) set(scope, "kwargs", Value::dict(std::move(rest)));
  if (macro.takes_varargs) {
    const auto first =
        arguments.positional.begin() + static_cast<std::ptrdiff_t>(std::min(given, count));
    set(scope, "varargs", Value::tuple(Values(first, arguments.positional.end())));
  }
  return Value(capture(macro.body, scope));
}

Value Evaluator::call(const Value& callee, const Arguments& arguments) {
  require_defined(callee);
  if (const Method* method = callee.get<Method>())
    return call_method(*this, method->self, method->name, arguments);
  Object* object = callee.object();
  if (!object || !object->callable())
    template_error("a value of type '{}' cannot be called", callee.type_name());
  meter_.charge(1);
  return object->call(*this, arguments);
}

}  // namespace weft::text::jinja
