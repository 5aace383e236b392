// Jinja's expressions, by recursive descent in the order of their precedence.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "core/text/jinja/ast.h"
#include "core/text/jinja/token_stream.h"

namespace weft::text::jinja {

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  ExpressionPtr expression();  // with `if ... else`
  // A tuple when commas follow, as in `{{ 1, 2 }}`. Not `conditional`: for places where `if`
  // follows. `stop` is a name that ends it.
  ExpressionPtr tuple(bool conditional, std::string_view stop = "");
  ExpressionPtr filters(ExpressionPtr operand);  // | a | b
  ExpressionPtr first_filter();                  // a | b, as in {% filter a | b %}

  // Every variable named since the last call: how a macro learns whether it uses kwargs.
  std::set<std::string> take_names() { return std::exchange(names_, {}); }
  void add_names(std::set<std::string> names) { names_.merge(names); }

 private:
  friend class Nesting;
  ExpressionPtr make(ExpressionKind kind, int line, Expressions operands = {});
  ExpressionPtr finish(ExpressionPtr expression);
  ExpressionPtr logical_or();
  ExpressionPtr logical_and();
  ExpressionPtr logical_not();
  ExpressionPtr comparison();
  ExpressionPtr sum();
  ExpressionPtr concatenation();
  ExpressionPtr product();
  ExpressionPtr power();
  ExpressionPtr unary(bool with_filters);
  ExpressionPtr primary();
  ExpressionPtr postfix(ExpressionPtr operand);
  ExpressionPtr filters_and_tests(ExpressionPtr operand);
  ExpressionPtr test(ExpressionPtr operand);
  ExpressionPtr subscript(ExpressionPtr operand);
  ExpressionPtr parenthesized();
  ExpressionPtr list();
  ExpressionPtr dict();
  ExpressionPtr string();
  ExpressionPtr filter(ExpressionPtr operand);
  CallArguments arguments();
  bool at_tuple_end(std::string_view stop) const;
  std::string dotted_name();

  TokenStream& tokens_;
  std::set<std::string> names_;
  int nesting_ = 0;
};

}  // namespace weft::text::jinja
