// Finds what of a rendered conversation the assistant wrote, for templates without generation
// marks.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/text/jinja.h"

namespace weft::text {

struct ChatSpanFinder {
  // Renders messages, with the generation prompt or without; throws bad_data when the template
  // refuses.
  std::function<std::string(const Json::Array& messages, bool add_generation_prompt)> render;
  std::vector<std::string> end_tokens;  // that may end a turn
  const std::string& where;             // for errors

  // One span for each assistant message. `text` is what render(messages, false) gives.
  std::vector<jinja::Span> find(const Json::Array& messages, const std::string& text) const;
};

}  // namespace weft::text
