#include "core/text/chat_template.h"

#include "core/base/error.h"

namespace weft::text {
namespace {

Json variables(const Json& messages, bool add_generation_prompt, const std::string& bos,
               const std::string& eos) {
  Json v;
  v.set("messages", messages);
  v.set("add_generation_prompt", add_generation_prompt);
  v.set("tools", Json());
  v.set("bos_token", bos);
  v.set("eos_token", eos);
  return v;
}

}  // namespace

ChatTemplate::ChatTemplate(const std::string& source, std::string bos_token, std::string eos_token,
                           const std::string& where)
    : template_(jinja::Template::parse(source, where)),
      bos_token_(std::move(bos_token)),
      eos_token_(std::move(eos_token)) {}

std::string ChatTemplate::render(const Json& messages, bool add_generation_prompt) const {
  return template_.render(variables(messages, add_generation_prompt, bos_token_, eos_token_));
}

RenderedChat ChatTemplate::render_with_spans(const Json& messages) const {
  if (template_.has_generation_marks()) {
    jinja::Rendering r =
        template_.render_marked(variables(messages, false, bos_token_, eos_token_));
    return {std::move(r.text), std::move(r.generated)};
  }
  RenderedChat chat{render(messages, false), {}};
  const Json::Array& all = messages.as_array();
  for (size_t i = 0; i < all.size(); ++i) {
    if (!(all[i].at("role") == Json("assistant"))) continue;
    const std::string before =
        render(Json::Array(all.begin(), all.begin() + static_cast<int64_t>(i)), true);
    std::string with = render(Json::Array(all.begin(), all.begin() + static_cast<int64_t>(i) + 1), false);
    if (with.compare(0, before.size(), before) != 0 || chat.text.compare(0, before.size(), before) != 0)
      fail(ErrorKind::bad_data,
           "the chat template does not show which text is the assistant's (turn {} is not a "
           "continuation of its prompt): give data.chat_template with generation marks", i + 1);
    size_t end = with.size();
    while (end > before.size() && std::isspace(static_cast<unsigned char>(with[end - 1]))) --end;
    chat.assistant.push_back({before.size(), end});
  }
  return chat;
}

}  // namespace weft::text
