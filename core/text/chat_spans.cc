#include "core/text/chat_spans.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "core/base/error.h"

namespace weft::text {
namespace {

// Stands in for a message's content. Private-use characters: no tokenizer's or template's text
// begins or ends with them, so that the first difference of two renderings is where the content
// begins.
constexpr std::string_view kStandIn = "\uE000stand-in\uE001";
constexpr std::string_view kWhiteSpace = " \t\r\n";
constexpr size_t kHeaderReach = 64;  // bytes between a turn's header and its content, at most
constexpr size_t kHeaderMatch = 4;   // bytes of the header that must be recognised, at least

bool starts_with(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}
bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

size_t common_prefix(std::string_view a, std::string_view b) {
  const size_t limit = std::min(a.size(), b.size());
  size_t size = 0;
  while (size < limit && a[size] == b[size]) ++size;
  return size;
}

size_t common_suffix(std::string_view a, std::string_view b) {
  const size_t limit = std::min(a.size(), b.size());
  size_t size = 0;
  while (size < limit && a[a.size() - 1 - size] == b[b.size() - 1 - size]) ++size;
  return size;
}

bool is_assistant(const Json& message) {
  const Json* role = message.find("role");
  return role && role->is_string() && role->as_string() == "assistant";
}

// The message with other content; a list of parts stays one.
Json with_stand_in(const Json& message) {
  Json changed = message;
  const Json* content = message.find("content");
  if (content && content->is_array()) {
    Json part;
    part.set("type", "text");
    part.set("text", kStandIn);
    changed.set("content", Json::Array{std::move(part)});
  } else {
    changed.set("content", kStandIn);
  }
  return changed;
}

class Search {
 public:
  Search(const ChatSpanFinder& finder, const Json::Array& messages, const std::string& text)
      : finder_(finder), messages_(messages), text_(text) {}

  std::vector<jinja::Span> run() {
    for (size_t i = 0; i < messages_.size(); ++i) {
      if (!is_assistant(messages_[i])) continue;
      jinja::Span span = find(i);
      if (span.begin < done_ || span.end < span.begin) not_found(i);
      done_ = span.end;
      spans_.push_back(span);
    }
    return std::move(spans_);
  }

 private:
  std::optional<std::string> try_render(size_t count, bool add_generation_prompt) const {
    try {
      return finder_.render(
          Json::Array(messages_.begin(), messages_.begin() + static_cast<std::ptrdiff_t>(count)),
          add_generation_prompt);
    } catch (const Error&) {
      return std::nullopt;  // a template may refuse the beginning of a conversation
    }
  }

  jinja::Span find(size_t index) const {
    const auto prompt = try_render(index, /*add_generation_prompt=*/true);
    const bool begins = prompt && prompt->size() >= done_ && starts_with(text_, *prompt);
    if (begins) {
      const auto turn = try_render(index + 1, /*add_generation_prompt=*/false);
      if (turn && turn->size() > prompt->size() && starts_with(text_, *turn))
        return without_tail({prompt->size(), turn->size()});
    }
    const jinja::Span content = find_content(index);
    if (begins && prompt->size() <= content.begin)
      return {prompt->size(), find_end(index, content.end)};
    return {prompt ? behind_header(*prompt, content.begin) : content.begin,
            find_end(index, content.end)};
  }

  // Cuts the white space behind an end-of-turn token; without such a token all stays.
  jinja::Span without_tail(jinja::Span span) const {
    const std::string_view turn = std::string_view(text_).substr(span.begin, span.end - span.begin);
    const size_t size = turn.find_last_not_of(kWhiteSpace) + 1;
    for (const std::string& token : finder_.end_tokens)
      if (ends_with(turn.substr(0, size), token)) return {span.begin, span.begin + size};
    return span;
  }

  // Where a message's content stands: what changes when it does.
  jinja::Span find_content(size_t index) const {
    Json::Array changed = messages_;
    changed[index] = with_stand_in(messages_[index]);
    std::string other;
    try {
      other = finder_.render(changed, false);
    } catch (const Error&) {
      not_found(index);
    }
    const size_t at = other.find(kStandIn);
    if (at == std::string::npos) not_found(index);
    const std::string_view rest = std::string_view(other).substr(at + kStandIn.size());
    const size_t begin = common_prefix(text_, std::string_view(other).substr(0, at));
    const size_t tail = std::min(common_suffix(text_, rest), text_.size() - begin);
    return {begin, text_.size() - tail};
  }

  // The end of the turn: the first end-of-turn token behind the content, before the next message.
  size_t find_end(size_t index, size_t content_end) const {
    size_t best = std::string::npos;
    for (const std::string& token : finder_.end_tokens) {
      const size_t at = text_.find(token, content_end);
      if (at != std::string::npos) best = std::min(best, at + token.size());
    }
    if (best != std::string::npos) return best;
    if (index + 1 == messages_.size()) return text_.size();
    not_found(index);
  }

  // Where the prompt's last bytes (the turn's header) stand just before the content.
  size_t behind_header(std::string_view prompt, size_t content_begin) const {
    const size_t lowest = std::max(done_, content_begin - std::min(content_begin, kHeaderReach));
    size_t best = content_begin, longest = kHeaderMatch - 1;
    for (size_t at = content_begin + 1; at-- > lowest;) {
      const size_t match = common_suffix(std::string_view(text_).substr(done_, at - done_), prompt);
      if (match > longest) best = at, longest = match;
    }
    return best;
  }

  [[noreturn]] void not_found(size_t index) const {
    fail(ErrorKind::bad_data,
         "{}: cannot tell which text of message {} (assistant) the model should learn: the chat "
         "template "
         "has no {{% generation %}} marks, does not render conversations turn by turn, and the "
         "message's "
         "content cannot be found in the rendered text. Add generation marks to the template, or "
         "train on "
         "all text",
         finder_.where, index + 1);
  }

  const ChatSpanFinder& finder_;
  const Json::Array& messages_;
  const std::string& text_;
  std::vector<jinja::Span> spans_;
  size_t done_ = 0;  // where the last span ended
};

}  // namespace

std::vector<jinja::Span> ChatSpanFinder::find(const Json::Array& messages,
                                              const std::string& text) const {
  return Search(*this, messages, text).run();
}

}  // namespace weft::text
