#include "core/text/jinja.h"

#include "core/base/error.h"
#include "core/text/jinja/evaluator.h"
#include "core/text/jinja/parser.h"

namespace weft::text::jinja {

Template Template::parse(std::string_view source, const std::string& where) {
  return Template(parse_template(source, where));
}

std::string Template::render(const Json& variables, const RenderOptions& options) const {
  return render_marked(variables, options).text;
}

Rendering Template::render_marked(const Json& variables, const RenderOptions& options) const {
  Evaluator evaluator(*ast_, options);
  try {
    return evaluator.run(variables);
  } catch (const TemplateError& e) {
    fail(ErrorKind::bad_data, "{}: chat template, line {}: {}", ast_->where, evaluator.line(),
         e.what());
  }
}

bool Template::has_generation_marks() const {
  return ast_->has_generation_marks;
}

}  // namespace weft::text::jinja
