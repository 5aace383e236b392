// The syntax tree of a template, as the parser leaves it. Immutable while templates render.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/text/jinja/expression.h"

namespace weft::text::jinja {

// What is assigned to: a name, names.attribute of a namespace, or a tuple of targets.
struct Target {
  std::string name;
  std::string attribute;
  std::vector<Target> parts;
};

struct Statement;
using Block = std::vector<Statement>;

enum class StatementKind {
  text,        // text
  output,      // expression
  branch,      // branches in order, then otherwise
  loop,        // for target in expression if condition: body, else otherwise
  set,         // target = expression
  set_block,   // target = body, through expression if there (a filter)
  macro,       // name, parameters; body
  with,        // assignments; body
  filter,      // body through expression
  generation,  // body, marked
  break_loop,
  continue_loop,
};

struct Branch {
  ExpressionPtr condition;
  Block body;
};

struct Parameter {
  std::string name;
  ExpressionPtr otherwise;  // null: undefined
};

struct Statement {
  StatementKind kind = StatementKind::text;
  int line = 0;
  std::string text;  // or the macro's name
  Target target;
  ExpressionPtr expression;
  ExpressionPtr condition;
  Block body;
  Block otherwise;
  std::vector<Branch> branches;
  std::vector<Parameter> parameters;
  std::vector<std::pair<Target, ExpressionPtr>> assignments;
  bool takes_varargs = false;  // the macro's body names `varargs`
  bool takes_kwargs = false;   // ... `kwargs`
};

struct Ast {
  std::string where;
  Block body;
  bool has_generation_marks = false;
};

}  // namespace weft::text::jinja
