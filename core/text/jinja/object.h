// Values with a state or a behaviour of their own: namespaces, loops, macros, global functions. The
// evaluator owns them; values point to them.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/text/jinja/value.h"

namespace weft::text::jinja {

class Evaluator;

// The arguments of a call of a function, macro, method, filter or test.
struct Arguments {
  Values positional;
  std::vector<std::pair<std::string, Value>> named;

  const Value* find(const std::string& name) const;
  // Arguments by the names of the parameters, in their order; null where none was given. Throws
  // when there are too many, one is unknown, or fewer than `required` are there.
  std::vector<const Value*> bind(const std::string& callee,
                                 std::initializer_list<const char*> parameters,
                                 size_t required = 0) const;
};

class Object {
 public:
  virtual ~Object() = default;
  virtual const char* type_name() const = 0;
  virtual std::optional<Value> attribute(const std::string& name) const { return std::nullopt; }
  virtual bool callable() const { return false; }
  virtual Value call(Evaluator& evaluator, const Arguments& arguments);
};

class Namespace : public Object {
 public:
  const char* type_name() const override { return "Namespace"; }
  std::optional<Value> attribute(const std::string& name) const override;
  void set(const std::string& name, Value value);

 private:
  std::vector<std::pair<std::string, Value>> attributes_;
};

// The variable `loop`.
class Loop : public Object {
 public:
  Loop(Values items, int depth) : items_(std::move(items)), depth_(depth) {}
  const char* type_name() const override { return "LoopContext"; }
  std::optional<Value> attribute(const std::string& name) const override;

  size_t size() const { return items_.size(); }
  const Value& item() const { return items_[index_]; }
  void move_to(size_t index) { index_ = index; }
  void finish() { items_.clear(), index_ = 0; }
  Value cycle(const Arguments& arguments) const;
  Value changed(Evaluator& evaluator, const Arguments& arguments);

 private:
  Values items_;
  int depth_;
  size_t index_ = 0;
  std::optional<Value> last_;  // of changed()
};

// A global function, written in C++.
class Function : public Object {
 public:
  using Body = Value (*)(Evaluator&, const Arguments&);
  explicit Function(Body body) : body_(body) {}
  const char* type_name() const override { return "function"; }
  bool callable() const override { return true; }
  Value call(Evaluator& evaluator, const Arguments& arguments) override {
    return body_(evaluator, arguments);
  }

 private:
  Body body_;
};

}  // namespace weft::text::jinja
