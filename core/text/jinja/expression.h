// Expressions of the syntax tree.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/text/jinja/value.h"

namespace weft::text::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;
using Expressions = std::vector<ExpressionPtr>;

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
  not_in,
};

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

}  // namespace weft::text::jinja
