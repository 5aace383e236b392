// Runs a syntax tree: one evaluator is one rendering. It owns the scopes, the objects and the
// output, counts steps and depth, and knows the line at hand for errors.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/text/jinja/ast.h"
#include "core/text/jinja/object.h"

namespace weft::text::jinja {

// Variables, innermost scope first. Shared, because macros keep the scope that they were defined
// in.
struct Scope {
  explicit Scope(std::shared_ptr<Scope> parent) : parent(std::move(parent)) {}
  std::vector<std::pair<std::string, Value>> variables;
  std::shared_ptr<Scope> parent;
};
using ScopePtr = std::shared_ptr<Scope>;

class Evaluator {
 public:
  Evaluator(const Ast& ast, const RenderOptions& options);
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  Rendering run(const Json& variables);  // throws TemplateError; line() says where
  int line() const { return line_; }

  // For objects, filters and methods.
  Meter& meter() { return meter_; }
  const RenderOptions& options() const { return options_; }
  Object* own(std::unique_ptr<Object> object);
  Value call(const Value& callee, const Arguments& arguments);
  Value call_macro(const Statement& macro, const ScopePtr& defined_in, const Arguments& arguments);
  Value attribute(const Value& object, const std::string& name);
  Value item(const Value& object, const Value& key);

 private:
  enum class Flow { normal, break_loop, continue_loop };

  // Bounds how deep statements and expressions call each other.
  class Deeper {
   public:
    explicit Deeper(Evaluator& evaluator) : depth_(evaluator.depth_) {
      const int limit = evaluator.options_.limits.max_depth;
      if (++depth_ > limit) template_error("the template's calls are nested deeper than {}", limit);
    }
    ~Deeper() { --depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;

   private:
    int& depth_;
  };

  // Statements (evaluator.cc).
  Flow execute(const Block& block, const ScopePtr& scope);
  Flow execute(const Statement& statement, const ScopePtr& scope);
  Flow execute_loop(const Statement& statement, const ScopePtr& scope);
  Values loop_items(const Statement& statement, const ScopePtr& scope);
  void execute_set_block(const Statement& statement, const ScopePtr& scope);
  void execute_generation(const Statement& statement, const ScopePtr& scope);
  std::string capture(const Block& block, const ScopePtr& scope);
  void assign(const Target& target, const Value& value, const ScopePtr& scope);
  void set(const ScopePtr& scope, const std::string& name, Value value);
  const Value* find(const ScopePtr& scope, const std::string& name);
  void write(const Value& value);
  void write_text(std::string_view text);

  // Expressions (expressions.cc). `body` stands in for the null operand of a block's filter.
  Value evaluate(const Expression& expression, const ScopePtr& scope, const Value* body = nullptr);
  Value evaluate_compound(const Expression& expression, const ScopePtr& scope, const Value* body);
  Values evaluate_all(const Expressions& expressions, const ScopePtr& scope);
  Value evaluate_dict(const Expression& expression, const ScopePtr& scope);
  Value evaluate_variable(const Expression& expression, const ScopePtr& scope);
  Value evaluate_slice(const Expression& expression, const ScopePtr& scope);
  Value evaluate_call(const Expression& expression, const ScopePtr& scope);
  Value evaluate_comparison(const Expression& expression, const ScopePtr& scope);
  Value evaluate_filter(const Expression& expression, const ScopePtr& scope, const Value* body);
  Value evaluate_test(const Expression& expression, const ScopePtr& scope);
  Value evaluate_conditional(const Expression& expression, const ScopePtr& scope);
  Value evaluate_concatenation(const Expression& expression, const ScopePtr& scope);
  Arguments evaluate_arguments(const CallArguments& arguments, const ScopePtr& scope);

  const Ast& ast_;
  const RenderOptions& options_;
  Meter meter_;
  std::vector<std::unique_ptr<Object>> objects_;
  std::vector<std::pair<std::string, Value>> globals_;
  Rendering rendering_;
  std::string* output_ = nullptr;  // rendering_.text, or what is being captured
  bool marks_lost_ = false;        // a generation mark stood within captured text
  int line_ = 0;
  int depth_ = 0;
  int loop_depth_ = 0;
};

}  // namespace weft::text::jinja
