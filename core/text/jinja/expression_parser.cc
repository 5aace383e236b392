#include "core/text/jinja/expression_parser.h"

#include <algorithm>
#include <utility>

namespace weft::text::jinja {
namespace {

constexpr int kMaxNestedParts = 100;  // brackets within brackets
constexpr int kMaxDepth = 300;        // of the tree: long chains of + count too

// Operands of a node with several; an initializer list cannot move.
template <class... Parts>
Expressions parts(Parts... all) {
  Expressions operands;
  (operands.push_back(std::move(all)), ...);
  return operands;
}

}  // namespace

// Bounds the recursion of the descent.
class Nesting {
 public:
  explicit Nesting(ExpressionParser& parser) : parser_(parser) {
    if (++parser_.nesting_ > kMaxNestedParts)
      parser_.tokens_.error("expressions nested too deeply");
  }
  ~Nesting() { --parser_.nesting_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;

 private:
  ExpressionParser& parser_;
};

ExpressionPtr ExpressionParser::make(ExpressionKind kind, int line, Expressions operands) {
  auto expression = std::make_unique<Expression>();
  expression->kind = kind;
  expression->line = line;
  expression->operands = std::move(operands);
  return finish(std::move(expression));
}

// Sets the depth from the parts; to be called again when parts were added.
ExpressionPtr ExpressionParser::finish(ExpressionPtr expression) {
  int deepest = 0;
  auto look = [&](const ExpressionPtr& part) {
    if (part) deepest = std::max(deepest, part->depth);
  };
  for (const auto& operand : expression->operands) look(operand);
  for (const auto& argument : expression->arguments.positional) look(argument);
  for (const auto& [name, argument] : expression->arguments.named) look(argument);
  look(expression->arguments.spread);
  look(expression->arguments.spread_named);
  expression->depth = deepest + 1;
  if (expression->depth > kMaxDepth)
    tokens_.error("the expression is too long or too deeply nested");
  return expression;
}

ExpressionPtr ExpressionParser::expression() {
  const Nesting nesting(*this);
  int line = tokens_.line();
  ExpressionPtr value = logical_or();
  while (tokens_.take_name("if")) {
    ExpressionPtr condition = logical_or();
    ExpressionPtr otherwise = tokens_.take_name("else") ? expression() : nullptr;
    value = make(ExpressionKind::conditional, line,
                 parts(std::move(value), std::move(condition), std::move(otherwise)));
    line = tokens_.line();
  }
  return value;
}

ExpressionPtr ExpressionParser::logical_or() {
  ExpressionPtr left = logical_and();
  while (tokens_.at_name("or")) {
    const int line = tokens_.take().line;
    ExpressionPtr right = logical_and();
    left = make(ExpressionKind::logical_or, line, parts(std::move(left), std::move(right)));
  }
  return left;
}

ExpressionPtr ExpressionParser::logical_and() {
  ExpressionPtr left = logical_not();
  while (tokens_.at_name("and")) {
    const int line = tokens_.take().line;
    ExpressionPtr right = logical_not();
    left = make(ExpressionKind::logical_and, line, parts(std::move(left), std::move(right)));
  }
  return left;
}

ExpressionPtr ExpressionParser::logical_not() {
  if (!tokens_.at_name("not")) return comparison();
  const Nesting nesting(*this);
  const int line = tokens_.take().line;
  return make(ExpressionKind::logical_not, line, parts(logical_not()));
}

ExpressionPtr ExpressionParser::comparison() {
  static const std::pair<const char*, Operator> kSymbols[] = {
      {"==", Operator::equal},      {"!=", Operator::not_equal}, {"<", Operator::less},
      {"<=", Operator::less_equal}, {">", Operator::greater},    {">=", Operator::greater_equal}};
  ExpressionPtr first = sum();
  auto chain = make(ExpressionKind::comparison, first->line);
  for (;;) {
    std::optional<Operator> found;
    for (const auto& [symbol, op] : kSymbols)
      if (tokens_.at_symbol(symbol)) found = op;
    if (tokens_.at_name("in")) found = Operator::in;
    const Token& ahead = tokens_.ahead();
    if (tokens_.at_name("not") && ahead.kind == TokenKind::name && ahead.text == "in")
      tokens_.take(), found = Operator::not_in;
    if (!found) break;
    tokens_.take();
    chain->operators.push_back(*found);
    chain->operands.push_back(sum());
  }
  if (chain->operators.empty()) return first;
  chain->operands.insert(chain->operands.begin(), std::move(first));
  return finish(std::move(chain));
}

ExpressionPtr ExpressionParser::sum() {
  ExpressionPtr left = concatenation();
  while (tokens_.at_symbol("+") || tokens_.at_symbol("-")) {
    const Token symbol = tokens_.take();
    ExpressionPtr right = concatenation();
    left = make(ExpressionKind::binary, symbol.line, parts(std::move(left), std::move(right)));
    left->operators = {symbol.text == "+" ? Operator::add : Operator::subtract};
  }
  return left;
}

ExpressionPtr ExpressionParser::concatenation() {
  ExpressionPtr first = product();
  if (!tokens_.at_symbol("~")) return first;
  const int line = first->line;
  auto joined = make(ExpressionKind::concatenate, line, parts(std::move(first)));
  while (tokens_.take_symbol("~")) joined->operands.push_back(product());
  return finish(std::move(joined));
}

ExpressionPtr ExpressionParser::product() {
  static const std::pair<const char*, Operator> kSymbols[] = {{"*", Operator::multiply},
                                                              {"/", Operator::divide},
                                                              {"//", Operator::floor_divide},
                                                              {"%", Operator::modulo}};
  ExpressionPtr left = power();
  for (;;) {
    std::optional<Operator> found;
    for (const auto& [symbol, op] : kSymbols)
      if (tokens_.at_symbol(symbol)) found = op;
    if (!found) return left;
    const int line = tokens_.take().line;
    ExpressionPtr right = power();
    left = make(ExpressionKind::binary, line, parts(std::move(left), std::move(right)));
    left->operators = {*found};
  }
}

ExpressionPtr ExpressionParser::power() {
  ExpressionPtr left = unary(true);
  while (tokens_.at_symbol("**")) {
    const int line = tokens_.take().line;
    ExpressionPtr right = unary(true);
    left = make(ExpressionKind::binary, line, parts(std::move(left), std::move(right)));
    left->operators = {Operator::power};
  }
  return left;
}

ExpressionPtr ExpressionParser::unary(bool with_filters) {
  ExpressionPtr value;
  if (tokens_.at_symbol("-") || tokens_.at_symbol("+")) {
    const Nesting nesting(*this);
    const Token sign = tokens_.take();
    value = make(sign.text == "-" ? ExpressionKind::negate : ExpressionKind::positive, sign.line,
                 parts(unary(false)));
  } else {
    value = primary();
  }
  value = postfix(std::move(value));
  return with_filters ? filters_and_tests(std::move(value)) : std::move(value);
}

ExpressionPtr ExpressionParser::primary() {
  const Token& token = tokens_.current();
  const int line = token.line;
  if (token.kind == TokenKind::string) return string();
  if (token.kind == TokenKind::integer || token.kind == TokenKind::real) {
    auto number = make(ExpressionKind::constant, line);
    number->constant = tokens_.take().value;
    return number;
  }
  if (token.kind == TokenKind::name) {
    const std::string name = tokens_.take().text;
    const bool yes = name == "true" || name == "True", no = name == "false" || name == "False";
    const bool none = name == "none" || name == "None";
    auto value =
        make(yes || no || none ? ExpressionKind::constant : ExpressionKind::variable, line);
    if (yes || no || none)
      value->constant = none ? Value(None{}) : Value(yes);
    else
      value->name = name, names_.insert(name);
    return value;
  }
  if (tokens_.at_symbol("(")) return parenthesized();
  if (tokens_.at_symbol("[")) return list();
  if (tokens_.at_symbol("{")) return dict();
  tokens_.error("unexpected " + tokens_.describe());
}

ExpressionPtr ExpressionParser::string() {
  auto text = make(ExpressionKind::constant, tokens_.line());
  std::string all;
  while (tokens_.at(TokenKind::string)) all += tokens_.take().text;
  text->constant = Value(std::move(all));
  return text;
}

bool ExpressionParser::at_tuple_end(std::string_view stop) const {
  return tokens_.at(TokenKind::variable_end) || tokens_.at(TokenKind::block_end) ||
         tokens_.at_symbol(")") || (!stop.empty() && tokens_.at_name(stop));
}

ExpressionPtr ExpressionParser::tuple(bool conditional, std::string_view stop) {
  const int line = tokens_.line();
  if (at_tuple_end(stop)) tokens_.error("expected an expression, found " + tokens_.describe());
  ExpressionPtr first = conditional ? expression() : logical_or();
  if (!tokens_.at_symbol(",")) return first;
  auto all = make(ExpressionKind::tuple, line, parts(std::move(first)));
  while (tokens_.take_symbol(",") && !at_tuple_end(stop))
    all->operands.push_back(conditional ? expression() : logical_or());
  return finish(std::move(all));
}

ExpressionPtr ExpressionParser::parenthesized() {
  const int line = tokens_.take().line;
  ExpressionPtr inside =
      tokens_.at_symbol(")") ? make(ExpressionKind::tuple, line) : tuple(/*conditional=*/true);
  tokens_.expect_symbol(")");
  return inside;
}

ExpressionPtr ExpressionParser::list() {
  auto items = make(ExpressionKind::list, tokens_.take().line);
  while (!tokens_.at_symbol("]")) {
    items->operands.push_back(expression());
    if (!tokens_.at_symbol("]")) tokens_.expect_symbol(",");
  }
  tokens_.take();
  return finish(std::move(items));
}

ExpressionPtr ExpressionParser::dict() {
  auto items = make(ExpressionKind::dict, tokens_.take().line);
  while (!tokens_.at_symbol("}")) {
    items->operands.push_back(expression());
    tokens_.expect_symbol(":");
    items->operands.push_back(expression());
    if (!tokens_.at_symbol("}")) tokens_.expect_symbol(",");
  }
  tokens_.take();
  return finish(std::move(items));
}

ExpressionPtr ExpressionParser::postfix(ExpressionPtr operand) {
  for (;;) {
    if (tokens_.at_symbol(".") || tokens_.at_symbol("[")) {
      operand = subscript(std::move(operand));
    } else if (tokens_.at_symbol("(")) {
      auto call = make(ExpressionKind::call, tokens_.line(), parts(std::move(operand)));
      call->arguments = arguments();
      operand = finish(std::move(call));
    } else {
      return operand;
    }
  }
}

ExpressionPtr ExpressionParser::subscript(ExpressionPtr operand) {
  const Token opener = tokens_.take();
  if (opener.text == ".") {
    if (tokens_.at(TokenKind::integer)) {
      auto index = make(ExpressionKind::constant, opener.line);
      index->constant = tokens_.take().value;
      return make(ExpressionKind::item, opener.line, parts(std::move(operand), std::move(index)));
    }
    auto attribute = make(ExpressionKind::attribute, opener.line, parts(std::move(operand)));
    attribute->name = tokens_.expect_any_name();
    return attribute;
  }
  ExpressionPtr bounds[3];
  if (!tokens_.at_symbol(":")) bounds[0] = expression();
  if (bounds[0] && tokens_.at_symbol(",")) {  // obj[a, b] takes a tuple
    bounds[0] = make(ExpressionKind::tuple, opener.line, parts(std::move(bounds[0])));
    while (tokens_.take_symbol(",")) bounds[0]->operands.push_back(expression());
    bounds[0] = finish(std::move(bounds[0]));
  }
  if (bounds[0] && tokens_.take_symbol("]"))
    return make(ExpressionKind::item, opener.line, parts(std::move(operand), std::move(bounds[0])));
  for (int i = 1; i < 3 && tokens_.take_symbol(":"); ++i)
    if (!tokens_.at_symbol(":") && !tokens_.at_symbol("]")) bounds[i] = expression();
  tokens_.expect_symbol("]");
  return make(
      ExpressionKind::slice, opener.line,
      parts(std::move(operand), std::move(bounds[0]), std::move(bounds[1]), std::move(bounds[2])));
}

CallArguments ExpressionParser::arguments() {
  CallArguments all;
  tokens_.expect_symbol("(");
  while (!tokens_.at_symbol(")")) {
    const Token& ahead = tokens_.ahead();
    const bool named =
        tokens_.at(TokenKind::name) && ahead.kind == TokenKind::symbol && ahead.text == "=";
    if (all.spread_named) tokens_.error("arguments after **");
    if (tokens_.take_symbol("*")) {
      if (all.spread) tokens_.error("a second * argument");
      all.spread = expression();
    } else if (tokens_.take_symbol("**")) {
      all.spread_named = expression();
    } else if (named) {
      std::string name = tokens_.take().text;
      tokens_.take();
      all.named.emplace_back(std::move(name), expression());
    } else {
      if (!all.named.empty() || all.spread)
        tokens_.error("a positional argument after a named one");
      all.positional.push_back(expression());
    }
    if (!tokens_.at_symbol(")")) tokens_.expect_symbol(",");
  }
  tokens_.take();
  return all;
}

std::string ExpressionParser::dotted_name() {
  std::string name = tokens_.expect_any_name();
  while (tokens_.take_symbol(".")) name += "." + tokens_.expect_any_name();
  return name;
}

ExpressionPtr ExpressionParser::filters_and_tests(ExpressionPtr operand) {
  for (;;) {
    if (tokens_.at_symbol("|"))
      operand = filters(std::move(operand));
    else if (tokens_.at_name("is"))
      operand = test(std::move(operand));
    else if (tokens_.at_symbol("("))
      operand = postfix(std::move(operand));
    else
      return operand;
  }
}

ExpressionPtr ExpressionParser::filters(ExpressionPtr operand) {
  while (tokens_.take_symbol("|")) operand = filter(std::move(operand));
  return operand;
}

ExpressionPtr ExpressionParser::first_filter() {
  return filters(filter(nullptr));
}

ExpressionPtr ExpressionParser::filter(ExpressionPtr operand) {
  auto filter = make(ExpressionKind::filter, tokens_.line(), parts(std::move(operand)));
  filter->name = dotted_name();
  if (tokens_.at_symbol("(")) filter->arguments = arguments();
  return finish(std::move(filter));
}

ExpressionPtr ExpressionParser::test(ExpressionPtr operand) {
  const int line = tokens_.take().line;
  const bool negated = tokens_.take_name("not");
  auto test = make(ExpressionKind::test, line, parts(std::move(operand)));
  test->name = dotted_name();
  const Token& token = tokens_.current();
  const bool ends = tokens_.at_name("else") || tokens_.at_name("or") || tokens_.at_name("and");
  const bool begins = token.kind == TokenKind::name || token.kind == TokenKind::string ||
                      token.kind == TokenKind::integer || token.kind == TokenKind::real ||
                      tokens_.at_symbol("[") || tokens_.at_symbol("{");
  if (tokens_.at_symbol("(")) {
    test->arguments = arguments();
  } else if (begins && !ends) {
    if (tokens_.at_name("is")) tokens_.error("tests cannot be chained with 'is'");
    test->arguments.positional.push_back(postfix(primary()));
  }
  test = finish(std::move(test));
  return negated ? make(ExpressionKind::logical_not, line, parts(std::move(test)))
                 : std::move(test);
}

}  // namespace weft::text::jinja
