// A template's source as tokens, with white space around tags already removed as the tags demand.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/text/jinja/value.h"

namespace weft::text::jinja {

enum class TokenKind {
  text,            // between tags
  variable_begin,  // {{
  variable_end,    // }}
  block_begin,     // {%
  block_end,       // %}
  name,
  string,   // text: unescaped
  integer,  // value
  real,     // value
  symbol,   // text: an operator or a bracket
  end,
};

struct Token {
  TokenKind kind;
  int line;
  std::string text;
  Value value;
};

// Throws weft::Error{bad_data} with `where` and the line.
std::vector<Token> tokenize(std::string_view source, const std::string& where);

[[noreturn]] void syntax_error(const std::string& where, int line, const std::string& what);

}  // namespace weft::text::jinja
