// The syntax tree of a template, as the parser leaves it. Immutable while templates render.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/text/jinja/operators.h"
#include "core/text/jinja/value.h"

namespace weft::text::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;
using Expressions = std::vector<ExpressionPtr>;

struct CallArguments {
  Expressions positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr spread;        // *args
  ExpressionPtr spread_named;  // **kwargs
};

enum class ExpressionKind {
  constant,     // constant
  variable,     // name
  list,         // operands
  tuple,        // operands
  dict,         // operands: key, value, key, value
  attribute,    // operands[0].name
  item,         // operands[0][operands[1]]
  slice,        // operands[0][operands[1]:operands[2]:operands[3]], any of the three null
  call,         // operands[0](arguments)
  filter,       // operands[0] | name(arguments); operands[0] null: the body of a block
  test,         // operands[0] is name(arguments)
  negate,       // -operands[0]
  positive,     // +operands[0]
  binary,       // operands[0] operators[0] operands[1]
  comparison,   // operands[0] operators[0] operands[1] operators[1] ...
  concatenate,  // operands, joined by ~
  logical_not,
  logical_and,
  logical_or,
  conditional,  // operands[0] if operands[1] else operands[2], which may be null
};

struct Expression {
  ExpressionKind kind;
  int line = 0;
  int depth = 1;  // of the tree below, kept small by the parser
  std::string name;
  Value constant;
  Expressions operands;
  std::vector<Operator> operators;
  CallArguments arguments;
};

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
