// A model's chat template: conversations to text, and which parts of the text the assistant wrote.
#pragma once

#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/text/jinja.h"

namespace weft::text {

struct RenderedChat {
  std::string text;
  std::vector<jinja::Span> assistant;  // ascending; each ends behind its end-of-turn token
};

class ChatTemplate {
 public:
  ChatTemplate(const std::string& source, std::string bos_token, std::string eos_token,
               const std::string& where = "chat template");

  // messages: [{"role", "content"}, ...]. Throws bad_data in the template's own words.
  std::string render(const Json& messages, bool add_generation_prompt) const;

  // Spans from {% generation %} marks where the template has them; else by rendering it turn by turn: what an
  // assistant's message adds to the prompt before it, without the white space behind its end-of-turn token.
  RenderedChat render_with_spans(const Json& messages) const;

 private:
  jinja::Template template_;
  std::string bos_token_, eos_token_;
};

}  // namespace weft::text
