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

bool has_calls(const Json& message) {
  const Json* calls = message.find("tool_calls");
  return calls && calls->is_array() && !calls->as_array().empty();
}

// The message with other content; a list of parts stays one.
Json with_other_content(const Json& message) {
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

// The message whose first tool call has another name: many templates leave out the content of
// messages that call tools.
Json with_other_call(const Json& message) {
  Json changed = message;
  Json::Array calls = message.at("tool_calls").as_array();
  Json call = calls[0];
  if (const Json* function = call.find("function")) {
    Json renamed = *function;
    renamed.set("name", kStandIn);
    call.set("function", std::move(renamed));
  } else {
    call.set("name", kStandIn);
  }
  calls[0] = std::move(call);
  changed.set("tool_calls", std::move(calls));
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
  Json::Array first(size_t count) const {
    return Json::Array(messages_.begin(), messages_.begin() + static_cast<std::ptrdiff_t>(count));
  }

  std::optional<std::string> try_render(const Json::Array& messages,
                                        bool add_generation_prompt) const {
    try {
      return finder_.render(messages, add_generation_prompt);
    } catch (const Error&) {
      return std::nullopt;  // a template may refuse the beginning of a conversation
    }
  }

  jinja::Span find(size_t index) const {
    const auto prompt = try_render(first(index), /*add_generation_prompt=*/true);
    const bool begins = prompt && prompt->size() >= done_ && starts_with(text_, *prompt);
    if (begins) {
      const auto turn = try_render(first(index + 1), /*add_generation_prompt=*/false);
      if (turn && turn->size() > prompt->size() && starts_with(text_, *turn) &&
          holds_content(index, {prompt->size(), turn->size()}))
        return without_tail({prompt->size(), turn->size()});
    }
    const jinja::Span content = find_content(index);
    if (begins && prompt->size() <= content.begin)
      return {prompt->size(), find_end(index, content.end)};
    return {prompt ? behind_header(*prompt, content.begin) : content.begin,
            find_end(index, content.end)};
  }

  // Whether the message's text stands there as it is, but for white space and thoughts.
  bool holds_content(size_t index, jinja::Span span) const {
    const Json* content = messages_[index].find("content");
    if (!content || content->is_null() || has_calls(messages_[index])) return true;
    if (!content->is_string()) return false;
    std::string_view wanted = content->as_string();
    if (const size_t thoughts = wanted.rfind("</think>"); thoughts != std::string_view::npos)
      wanted.remove_prefix(thoughts + std::string_view("</think>").size());
    wanted.remove_prefix(std::min(wanted.find_first_not_of(kWhiteSpace), wanted.size()));
    wanted = wanted.substr(0, wanted.find_last_not_of(kWhiteSpace) + 1);
    const std::string_view turn = std::string_view(text_).substr(span.begin, span.end - span.begin);
    return turn.find(wanted) != std::string_view::npos;
  }

  bool ends_a_turn(std::string_view text) const { return end_token_size(text) > 0; }
  size_t end_token_size(std::string_view text) const {
    for (const std::string& token : finder_.end_tokens)
      if (!token.empty() && ends_with(text, token)) return token.size();
    return 0;
  }

  // Cuts what follows the end-of-turn token: white space, and an end-of-text token behind that,
  // which some templates add to the last turn. Without such a token all stays.
  jinja::Span without_tail(jinja::Span span) const {
    std::string_view turn = std::string_view(text_).substr(span.begin, span.end - span.begin);
    turn = turn.substr(0, turn.find_last_not_of(kWhiteSpace) + 1);
    if (!ends_a_turn(turn)) return span;
    for (;;) {
      const std::string_view rest = turn.substr(0, turn.size() - end_token_size(turn));
      const std::string_view before = rest.substr(0, rest.find_last_not_of(kWhiteSpace) + 1);
      if (before.size() == rest.size() || !ends_a_turn(before)) break;
      turn = before;
    }
    return {span.begin, span.begin + turn.size()};
  }

  // Where a message's content stands (or the name of what it calls): what changes when it does.
  jinja::Span find_content(size_t index) const {
    const Json& message = messages_[index];
    auto found = find_stand_in(messages_, index, with_other_content(message));
    if (!found && has_calls(message))
      found = find_stand_in(messages_, index, with_other_call(message));
    if (!found) not_found(index);
    return *found;
  }

  // Where the rendering of `messages` changes when one of them does.
  std::optional<jinja::Span> find_stand_in(Json::Array messages, size_t index,
                                           Json other_message) const {
    const auto text = try_render(messages, /*add_generation_prompt=*/false);
    messages[index] = std::move(other_message);
    const auto other = try_render(messages, /*add_generation_prompt=*/false);
    const size_t at = text && other ? other->find(kStandIn) : std::string::npos;
    if (at == std::string::npos) return std::nullopt;
    const std::string_view rest = std::string_view(*other).substr(at + kStandIn.size());
    const size_t begin = common_prefix(*text, std::string_view(*other).substr(0, at));
    const size_t tail = std::min(common_suffix(*text, rest), text->size() - begin);
    return jinja::Span{begin, text->size() - tail};
  }

  // The end of the turn whose content ends at `content_end`: behind the first end-of-turn token
  // before the next message. Where the family has none that is known: behind what follows the
  // content whether messages follow or not.
  size_t find_end(size_t index, size_t content_end) const {
    if (index + 1 == messages_.size()) return without_tail({content_end, text_.size()}).end;
    const auto next = find_stand_in(messages_, index + 1, with_other_content(messages_[index + 1]));
    const size_t limit = next && next->begin >= content_end ? next->begin : text_.size();
    size_t best = std::string::npos;
    for (const std::string& token : finder_.end_tokens) {
      const size_t at = token.empty() ? std::string::npos : text_.find(token, content_end);
      if (at != std::string::npos && at + token.size() <= limit)
        best = std::min(best, at + token.size());
    }
    if (best != std::string::npos) return best;
    const auto turn = try_render(first(index + 1), /*add_generation_prompt=*/false);
    const auto alone =
        turn ? find_stand_in(first(index + 1), index, with_other_content(messages_[index]))
             : std::nullopt;
    if (!alone) not_found(index);
    const std::string_view tail = std::string_view(*turn).substr(alone->end);
    if (!starts_with(std::string_view(text_).substr(content_end), tail)) not_found(index);
    return std::min(content_end + tail.size(), limit);
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
