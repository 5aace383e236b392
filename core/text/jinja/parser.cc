#include "core/text/jinja/parser.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "core/text/jinja/expression_parser.h"
#include "core/text/jinja/strings.h"
#include "core/text/jinja/token_stream.h"

namespace weft::text::jinja {
namespace {

constexpr int kMaxBlocks = 60;  // blocks within blocks

class Parser {
 public:
  Parser(std::string_view source, const std::string& where)
      : tokens_(source, where), expressions_(tokens_) {
    ast_.where = where;
  }

  Ast run() {
    ast_.body = block({});
    return std::move(ast_);
  }

 private:
  using Ends = std::initializer_list<std::string_view>;

  // Statements up to one of the tags in `ends`, whose name is then the token at hand.
  Block block(Ends ends) {
    if (++nesting_ > kMaxBlocks) tokens_.error("blocks nested too deeply");
    Block statements;
    while (!tokens_.at(TokenKind::end)) {
      if (tokens_.at(TokenKind::text)) {
        Statement text = make(StatementKind::text);
        text.text = tokens_.take().text;
        statements.push_back(std::move(text));
      } else if (tokens_.at(TokenKind::variable_begin)) {
        statements.push_back(output());
      } else {
        tokens_.expect(TokenKind::block_begin);
        const bool done =
            std::any_of(ends.begin(), ends.end(), [&](auto name) { return tokens_.at_name(name); });
        if (done) return --nesting_, std::move(statements);
        statements.push_back(statement());
        tokens_.expect(TokenKind::block_end);
      }
    }
    if (ends.size() > 0)
      tokens_.error("the template ends within a block that '" + std::string(*(ends.end() - 1)) +
                    "' should close");
    --nesting_;
    return statements;
  }

  // The body of a tag: from the end of the tag on to its end tag, which is taken too.
  Block body(std::string_view end) {
    tokens_.expect(TokenKind::block_end);
    Block statements = block({end});
    tokens_.take();
    return statements;
  }

  Statement make(StatementKind kind) const {
    Statement statement;
    statement.kind = kind;
    statement.line = tokens_.line();
    return statement;
  }

  Statement output() {
    Statement statement = make(StatementKind::output);
    tokens_.take();
    statement.expression = expressions_.tuple(/*conditional=*/true);
    tokens_.expect(TokenKind::variable_end);
    return statement;
  }

  Statement statement() {
    const int line = tokens_.line();
    const std::string tag = tokens_.expect_any_name();
    Statement parsed = tagged(tag);
    parsed.line = line;
    return parsed;
  }

  Statement tagged(const std::string& tag) {
    if (tag == "if") return branch();
    if (tag == "for") return loop();
    if (tag == "set") return set();
    if (tag == "macro") return macro();
    if (tag == "with") return with();
    if (tag == "filter") return filter();
    if (tag == "generation") return generation();
    if (tag == "break" || tag == "continue") return jump(tag);
    if (tag.substr(0, 3) == "end" || tag == "else" || tag == "elif")
      tokens_.error("'" + tag + "' without a block that it belongs to");
    tokens_.error("the tag '" + tag + "' is not supported");
  }

  Statement branch() {
    Statement statement = make(StatementKind::branch);
    for (;;) {
      Branch one;
      one.condition = expressions_.tuple(/*conditional=*/false);
      tokens_.expect(TokenKind::block_end);
      one.body = block({"elif", "else", "endif"});
      statement.branches.push_back(std::move(one));
      const std::string tag = tokens_.take().text;
      if (tag == "else") statement.otherwise = body("endif");
      if (tag != "elif") return statement;
    }
  }

  Statement loop() {
    Statement statement = make(StatementKind::loop);
    statement.target = target("in");
    if (!statement.target.attribute.empty()) tokens_.error("a loop cannot assign to a namespace");
    tokens_.expect_name("in");
    statement.expression = expressions_.tuple(/*conditional=*/false, "recursive");
    if (tokens_.take_name("if")) statement.condition = expressions_.expression();
    if (tokens_.at_name("recursive")) tokens_.error("recursive loops are not supported");
    tokens_.expect(TokenKind::block_end);
    ++loops_;
    statement.body = block({"else", "endfor"});
    --loops_;
    if (tokens_.take().text == "else") statement.otherwise = body("endfor");
    return statement;
  }

  Statement set() {
    Statement statement = make(StatementKind::set);
    statement.target = target("");
    if (tokens_.take_symbol("=")) {
      statement.expression = expressions_.tuple(/*conditional=*/true);
      return statement;
    }
    statement.kind = StatementKind::set_block;
    if (tokens_.at_symbol("|")) statement.expression = expressions_.filters(nullptr);
    statement.body = isolated_body("endset");
    return statement;
  }

  // A name, namespace.attribute or a tuple of them; `stop` ends a tuple.
  Target target(std::string_view stop) {
    Target first = single_target();
    if (!tokens_.at_symbol(",")) return first;
    Target all;
    all.parts.push_back(std::move(first));
    while (tokens_.take_symbol(",")) {
      if (tokens_.at_symbol("=") || (!stop.empty() && tokens_.at_name(stop))) break;
      all.parts.push_back(single_target());
    }
    return all;
  }

  Target single_target() {
    if (tokens_.take_symbol("(")) {
      Target inside = target(")");
      tokens_.expect_symbol(")");
      return inside;
    }
    Target single;
    single.name = tokens_.expect_any_name();
    for (const char* constant : {"true", "false", "none", "True", "False", "None"})
      if (single.name == constant) tokens_.error("cannot assign to '" + single.name + "'");
    if (tokens_.take_symbol(".")) single.attribute = tokens_.expect_any_name();
    return single;
  }

  Statement macro() {
    Statement statement = make(StatementKind::macro);
    statement.text = tokens_.expect_any_name();
    std::set<std::string> outer = expressions_.take_names();
    tokens_.expect_symbol("(");
    while (!tokens_.take_symbol(")")) {
      Parameter parameter;
      parameter.name = tokens_.expect_any_name();
      if (tokens_.take_symbol("="))
        parameter.otherwise = expressions_.expression();
      else if (!statement.parameters.empty() && statement.parameters.back().otherwise)
        tokens_.error("a parameter without a default after one with");
      statement.parameters.push_back(std::move(parameter));
      if (!tokens_.at_symbol(")")) tokens_.expect_symbol(",");
    }
    statement.body = isolated_body("endmacro");
    std::set<std::string> used = expressions_.take_names();
    statement.takes_varargs = used.count("varargs") > 0;
    statement.takes_kwargs = used.count("kwargs") > 0;
    expressions_.add_names(std::move(used));
    expressions_.add_names(std::move(outer));
    return statement;
  }

  // A body that a loop around it cannot be left from.
  Block isolated_body(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    Block statements = body(end);
    loops_ = loops;
    return statements;
  }

  Statement with() {
    Statement statement = make(StatementKind::with);
    while (!tokens_.at(TokenKind::block_end)) {
      if (!statement.assignments.empty()) tokens_.expect_symbol(",");
      Target name = target("");
      tokens_.expect_symbol("=");
      statement.assignments.emplace_back(std::move(name), expressions_.expression());
    }
    statement.body = body("endwith");
    return statement;
  }

  Statement filter() {
    Statement statement = make(StatementKind::filter);
    statement.expression = expressions_.first_filter();
    statement.body = isolated_body("endfilter");
    return statement;
  }

  Statement generation() {
    Statement statement = make(StatementKind::generation);
    ast_.has_generation_marks = true;
    statement.body = isolated_body("endgeneration");
    return statement;
  }

  Statement jump(const std::string& tag) {
    if (loops_ == 0) tokens_.error("'" + tag + "' outside of a loop");
    return make(tag == "break" ? StatementKind::break_loop : StatementKind::continue_loop);
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
  Ast ast_;
  int nesting_ = 0;
  int loops_ = 0;
};

}  // namespace

std::string TokenStream::describe() const {
  const Token& token = current();
  switch (token.kind) {
    case TokenKind::text:
      return "text";
    case TokenKind::variable_begin:
      return "'{{'";
    case TokenKind::variable_end:
      return "'}}'";
    case TokenKind::block_begin:
      return "'{%'";
    case TokenKind::block_end:
      return "'%}'";
    case TokenKind::integer:
    case TokenKind::real:
      return "a number";
    case TokenKind::string:
      return "the string " + quoted(token.text.substr(0, 40));
    case TokenKind::name:
    case TokenKind::symbol:
      return "'" + token.text + "'";
    case TokenKind::end:
      return "the end of the template";
  }
  return "";
}

std::shared_ptr<const Ast> parse_template(std::string_view source, const std::string& where) {
  return std::make_shared<const Ast>(Parser(source, where).run());
}

}  // namespace weft::text::jinja
