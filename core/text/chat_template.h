// A model's chat template: a conversation to the text that the model was trained on, and which
// parts of that text the model itself would have written.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"
#include "core/text/jinja.h"

namespace weft::text {

struct ChatOptions {
  bool add_generation_prompt = false;
  Json tools;   // an array of function descriptions, or null
  Json extras;  // an object of further variables (enable_thinking, date_string, ...), or null
};

struct RenderedChat {
  std::string text;
  // Byte ranges of `text` that the assistant wrote, in order, one for each of its messages (or for
  // each generation mark of the template). The end-of-turn token belongs to its range; white space
  // behind it, which a model does not write, does not.
  std::vector<jinja::Span> assistant;
};

class ChatTemplate {
 public:
  // `special_tokens` is an object of names and texts ("bos_token": "<s>", "eos_token": "</s>",
  // ...): they are variables of the template, and eos_token is an end-of-turn token. `where` names
  // the template in errors. Throws bad_data when the template does not parse.
  ChatTemplate(std::string_view source, Json special_tokens, std::string where);

  // From the content of tokenizer_config.json: `chat_template` is a text or a list of named texts,
  // of which "default" is taken (with `tools`: "tool_use" if it is there). Empty when there is
  // none.
  static std::optional<ChatTemplate> from_tokenizer_config(const Json& config,
                                                           const std::string& where,
                                                           bool tools = false);

  // `messages`: an array of objects with `role` and `content`, as templates expect them. Throws
  // bad_data with the template's line; also when the template refuses the conversation.
  std::string render(const Json& messages, const ChatOptions& options = {}) const;

  // For training: the whole conversation and what of it the assistant wrote. From {% generation %}
  // marks where the template has them. Else turn by turn: the text that a message adds behind the
  // generation prompt. Where a template renders a turn differently once others follow (Qwen3,
  // DeepSeek drop earlier thoughts), by looking where a change of the message's content changes the
  // text. Throws bad_data naming the message when no way finds it. REQUIRES no generation prompt in
  // `options`.
  RenderedChat render_with_spans(const Json& messages, const ChatOptions& options = {}) const;

  // The clock of strftime_now and the limits of each rendering.
  void set_render_options(jinja::RenderOptions options) { render_options_ = std::move(options); }
  const std::string& source() const { return source_; }

 private:
  jinja::Rendering render_marked(const Json& messages, const ChatOptions& options) const;

  std::string source_;
  Json special_tokens_;
  std::string where_;
  jinja::Template template_;
  jinja::RenderOptions render_options_;
};

}  // namespace weft::text
