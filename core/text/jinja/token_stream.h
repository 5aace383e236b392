// The parsers' view of the tokens: the one at hand, expectations, errors, and a bound on nesting.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/jinja/lexer.h"

namespace weft::text::jinja {

class TokenStream {
 public:
  TokenStream(std::string_view source, const std::string& where)
      : where_(where), tokens_(tokenize(source, where)) {}

  const Token& current() const { return tokens_[position_]; }
  const Token& ahead() const { return tokens_[std::min(position_ + 1, tokens_.size() - 1)]; }
  int line() const { return current().line; }
  bool at(TokenKind kind) const { return current().kind == kind; }
  bool at_symbol(std::string_view text) const {
    return at(TokenKind::symbol) && current().text == text;
  }
  bool at_name(std::string_view text) const {
    return at(TokenKind::name) && current().text == text;
  }

  Token take() {
    Token token = current();
    if (position_ + 1 < tokens_.size()) ++position_;
    return token;
  }
  bool take_symbol(std::string_view text) { return at_symbol(text) && (take(), true); }
  bool take_name(std::string_view text) { return at_name(text) && (take(), true); }

  void expect_symbol(std::string_view text) {
    if (!take_symbol(text)) error("expected '" + std::string(text) + "', found " + describe());
  }
  void expect_name(std::string_view text) {
    if (!take_name(text)) error("expected '" + std::string(text) + "', found " + describe());
  }
  std::string expect_any_name() {
    if (!at(TokenKind::name)) error("expected a name, found " + describe());
    return take().text;
  }
  void expect(TokenKind kind) {
    if (!at(kind)) error("unexpected " + describe());
    take();
  }

  [[noreturn]] void error(const std::string& what) const { syntax_error(where_, line(), what); }
  std::string describe() const;

 private:
  std::string where_;
  std::vector<Token> tokens_;
  size_t position_ = 0;
};

}  // namespace weft::text::jinja
