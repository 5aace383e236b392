// A subset of Jinja2, as large as chat templates need, with the semantics of the environment that
// transformers renders them in: ImmutableSandboxedEnvironment(trim_blocks=True,
// lstrip_blocks=True), loop controls, `{% generation %}` marks, tojson as json.dumps,
// raise_exception and strftime_now. Templates come from strangers: every rendering is bounded. What
// is not supported is an error that names the template and the line. How it is built: jinja/lexer
// -> parser -> ast -> evaluator.
#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"

namespace weft::text::jinja {

struct Limits {
  size_t max_steps = 4'000'000;  // nodes evaluated + elements visited + 32-byte pieces of text
  size_t max_string_bytes = size_t{16} << 20;  // any one string, and the output
  int max_depth = 400;                         // of nested nodes and calls while evaluating
};

struct RenderOptions {
  Limits limits;
  std::function<std::tm()> now;  // the clock of strftime_now; empty: local time
};

// A half-open range of bytes of the rendered text.
struct Span {
  size_t begin = 0;
  size_t end = 0;
  bool operator==(const Span&) const = default;
};

struct Rendering {
  std::string text;
  std::vector<Span> generated;  // what stood between {% generation %} and {% endgeneration %}
};

struct Ast;

// A parsed template. Immutable: may be rendered from many threads at once.
class Template {
 public:
  // `where` names the template in errors ("model/tokenizer_config.json: chat_template"). Throws
  // bad_data with the line: a syntax error, an unsupported tag, too large or too deeply nested.
  static Template parse(std::string_view source, const std::string& where);

  // `variables` is an object; its members are the template's variables. Throws bad_data with the
  // line: an error in the template's own terms, raise_exception, something unsupported, a limit.
  std::string render(const Json& variables, const RenderOptions& options = {}) const;
  Rendering render_marked(const Json& variables, const RenderOptions& options = {}) const;

  bool has_generation_marks() const;

 private:
  explicit Template(std::shared_ptr<const Ast> ast) : ast_(std::move(ast)) {}
  std::shared_ptr<const Ast> ast_;
};

}  // namespace weft::text::jinja
