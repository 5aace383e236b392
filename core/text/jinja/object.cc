#include "core/text/jinja/object.h"

#include <algorithm>

#include "core/text/jinja/compare.h"
#include "core/text/jinja/evaluator.h"

namespace weft::text::jinja {

const Value* Arguments::find(const std::string& name) const {
  for (const auto& [known, value] : named)
    if (known == name) return &value;
  return nullptr;
}

std::vector<const Value*> Arguments::bind(const std::string& callee,
                                          std::initializer_list<const char*> parameters,
                                          size_t required) const {
  if (positional.size() > parameters.size())
    template_error("{} takes at most {} arguments, {} were given", callee, parameters.size(),
                   positional.size());
  std::vector<const Value*> bound(parameters.size(), nullptr);
  for (size_t i = 0; i < positional.size(); ++i) bound[i] = &positional[i];
  for (const auto& [name, value] : named) {
    const auto known = std::find(parameters.begin(), parameters.end(), name);
    if (known == parameters.end()) template_error("{} takes no argument '{}'", callee, name);
    const auto index = static_cast<size_t>(known - parameters.begin());
    if (bound[index]) template_error("{} was given '{}' twice", callee, name);
    bound[index] = &value;
  }
  for (size_t i = 0; i < required; ++i)
    if (!bound[i]) template_error("{} needs the argument '{}'", callee, *(parameters.begin() + i));
  return bound;
}

Value Object::call(Evaluator&, const Arguments&) {
  template_error("a value of type '{}' cannot be called", type_name());
}

std::optional<Value> Namespace::attribute(const std::string& name) const {
  for (const auto& [known, value] : attributes_)
    if (known == name) return value;
  return std::nullopt;
}

void Namespace::set(const std::string& name, Value value) {
  for (auto& [known, old] : attributes_)
    if (known == name) return void(old = std::move(value));
  attributes_.emplace_back(name, std::move(value));
}

std::optional<Value> Loop::attribute(const std::string& name) const {
  const auto index = static_cast<int64_t>(index_);
  const auto length = static_cast<int64_t>(items_.size());
  if (name == "index") return Value(index + 1);
  if (name == "index0") return Value(index);
  if (name == "revindex") return Value(length - index);
  if (name == "revindex0") return Value(length - index - 1);
  if (name == "first") return Value(index == 0);
  if (name == "last") return Value(index + 1 == length);
  if (name == "length") return Value(length);
  if (name == "depth") return Value(int64_t{1});
  if (name == "depth0") return Value(int64_t{0});
  if (name == "previtem")
    return index > 0 ? items_[index_ - 1] : Value::undefined("there is no previous item");
  if (name == "nextitem")
    return index + 1 < length ? items_[index_ + 1] : Value::undefined("there is no next item");
  return std::nullopt;
}

Value Loop::cycle(const Arguments& arguments) const {
  if (arguments.positional.empty()) template_error("loop.cycle() needs values");
  return arguments.positional[index_ % arguments.positional.size()];
}

Value Loop::changed(Evaluator& evaluator, const Arguments& arguments) {
  Value now = Value::tuple(arguments.positional);
  if (last_ && equal(*last_, now, evaluator.meter())) return false;
  last_ = std::move(now);
  return true;
}

}  // namespace weft::text::jinja
