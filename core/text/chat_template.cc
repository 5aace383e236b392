#include "core/text/chat_template.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"
#include "core/text/chat_spans.h"

namespace weft::text {
namespace {

// Tokens that end a turn in the families that have one other than eos_token.
constexpr const char* kEndTokens[] = {"<|im_end|>",
                                      "<|eot_id|>",
                                      "<|eom_id|>",
                                      "<end_of_turn>",
                                      "<turn|>",
                                      "<|end|>",
                                      "<|end_of_turn|>",
                                      "<|END_OF_TURN_TOKEN|>",
                                      "<｜end▁of▁sentence｜>",
                                      "<|end_of_text|>",
                                      "<|endoftext|>",
                                      "</s>"};

// A token is a text, or an object of its text and flags.
std::string token_text(const Json& token) {
  const Json* content = token.find("content");
  return (content ? *content : token).as_string();
}

Json special_tokens_of(const Json& config) {
  Json tokens = Json::Object{};
  for (const char* name : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
                           "cls_token", "mask_token"}) {
    const Json* token = config.find(name);
    if (token && !token->is_null()) tokens.set(name, token_text(*token));
  }
  return tokens;
}

const Json* choose_template(const Json& templates, bool tools) {
  if (templates.is_string()) return &templates;
  const Json* fallback = nullptr;
  for (const Json& one : templates.as_array()) {
    const std::string& name = one.at("name").as_string();
    if (name == "default") fallback = &one.at("template");
    if (tools && name == "tool_use") return &one.at("template");
  }
  return fallback;
}

}  // namespace

ChatTemplate::ChatTemplate(std::string_view source, Json special_tokens, std::string where)
    : source_(source),
      special_tokens_(std::move(special_tokens)),
      where_(std::move(where)),
      template_(jinja::Template::parse(source, where_)) {
  if (special_tokens_.is_null()) special_tokens_ = Json::Object{};
}

std::optional<ChatTemplate> ChatTemplate::from_tokenizer_config(const Json& config,
                                                                const std::string& where,
                                                                bool tools) {
  const Json* templates = config.find("chat_template");
  if (!templates || templates->is_null()) return std::nullopt;
  const Json* chosen = choose_template(*templates, tools);
  if (!chosen)
    fail(ErrorKind::bad_data, "{}: chat_template has no template named 'default'", where);
  return ChatTemplate(chosen->as_string(), special_tokens_of(config), where);
}

jinja::Rendering ChatTemplate::render_marked(const Json& messages,
                                             const ChatOptions& options) const {
  Json variables = special_tokens_;
  if (options.extras.is_object())
    for (const auto& [name, value] : options.extras.as_object()) variables.set(name, value);
  variables.set("messages", messages);
  variables.set("tools", options.tools);
  variables.set("documents", nullptr);
  variables.set("add_generation_prompt", options.add_generation_prompt);
  return template_.render_marked(variables, render_options_);
}

std::string ChatTemplate::render(const Json& messages, const ChatOptions& options) const {
  return render_marked(messages, options).text;
}

RenderedChat ChatTemplate::render_with_spans(const Json& messages,
                                             const ChatOptions& options) const {
  CHECK(!options.add_generation_prompt, "spans are of whole conversations");
  jinja::Rendering whole = render_marked(messages, options);
  if (!whole.generated.empty()) return {std::move(whole.text), std::move(whole.generated)};
  ChatSpanFinder finder{.render =
                            [&](const Json::Array& some, bool add_generation_prompt) {
                              ChatOptions with = options;
                              with.add_generation_prompt = add_generation_prompt;
                              return render(some, with);
                            },
                        .end_tokens = {std::begin(kEndTokens), std::end(kEndTokens)},
                        .where = where_};
  if (const Json* eos = special_tokens_.find("eos_token"))
    finder.end_tokens.push_back(eos->as_string());
  auto spans = finder.find(messages.as_array(), whole.text);
  return {std::move(whole.text), std::move(spans)};
}

}  // namespace weft::text
