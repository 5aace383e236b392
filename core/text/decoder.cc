#include "core/text/decoder.h"

#include <utility>

#include "core/base/error.h"
#include "core/text/byte_level.h"
#include "core/text/json_fields.h"

namespace weft::text {
namespace {

// The bytes of a token in GPT-2's spelling; a token that is not in it (an added one) stands for
// itself.
std::string bytes_of(const std::string& token) {
  std::string bytes;
  for (size_t at = 0; at < token.size();) {
    const int byte = byte_level_byte(next_code_point(token, at));
    if (byte < 0) return token;
    bytes += static_cast<char>(byte);
  }
  return bytes;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// The byte of "<0x41>", or -1.
int fallback_byte(const std::string& token) {
  if (token.size() != 6 || token.compare(0, 3, "<0x") != 0 || token[5] != '>') return -1;
  const int high = hex_digit(token[3]), low = hex_digit(token[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

std::string strip(std::string token, const std::string& content, int64_t start, int64_t stop) {
  size_t begin = 0, end = token.size();
  const size_t size = content.size();
  for (; start > 0 && token.compare(begin, size, content) == 0; --start) begin += size;
  for (; stop > 0 && end >= begin + size && token.compare(end - size, size, content) == 0; --stop)
    end -= size;
  return token.substr(begin, end - begin);
}

std::string one_character(JsonFields& fields, std::string_view key) {
  const std::string& text = fields.string(key);
  size_t end = 0;
  if (!text.empty()) next_code_point(text, end);
  if (end == 0 || end != text.size())
    fail(ErrorKind::bad_data, "{}: '{}' must be one character, not '{}'", fields.where(), key,
         text);
  return text;
}

int64_t count_of(JsonFields& fields, std::string_view key) {
  const int64_t count = fields.integer(key);
  if (count < 0 || count > 1'000'000)
    fail(ErrorKind::bad_data, "{}: '{}' is {}, out of range", fields.where(), key, count);
  return count;
}

}  // namespace

Decoder::Decoder(const Json& definition, const std::string& where) {
  if (definition.is_null())
    steps_.push_back(Spaces{});
  else
    add(definition, where);
}

void Decoder::add(const Json& definition, const std::string& where) {
  JsonFields fields(definition, where);
  const std::string type = fields.string("type");
  if (type == "Sequence") {
    size_t index = 0;
    for (const Json& part : fields.array("decoders"))
      add(part, fmt::format("{}.decoders[{}]", where, index++));
  } else if (type == "ByteLevel") {
    fields.ignore(
        {"add_prefix_space", "trim_offsets", "use_regex"});  // only the pre-tokenizer's business
    steps_.push_back(ByteLevel{});
  } else if (type == "Metaspace") {
    fields.ignore({"str_rep", "split"});
    const bool add_prefix_space = fields.boolean_or("add_prefix_space", true);
    const std::string scheme =
        fields.string_or("prepend_scheme", add_prefix_space ? "always" : "never");
    steps_.push_back(Metaspace{one_character(fields, "replacement"), scheme != "never"});
  } else if (type == "Replace") {
    Regex pattern = pattern_from_json(fields.at("pattern"), where + ".pattern");
    steps_.push_back(Replace{std::move(pattern), fields.string("content")});
  } else if (type == "ByteFallback") {
    steps_.push_back(ByteFallback{});
  } else if (type == "Fuse") {
    steps_.push_back(Fuse{});
  } else if (type == "Strip") {
    std::string content = one_character(fields, "content");
    const int64_t start = count_of(fields, "start");
    steps_.push_back(Strip{std::move(content), start, count_of(fields, "stop")});
  } else {
    fail(ErrorKind::bad_data, "{}: decoder '{}' is not supported", where, type);
  }
  fields.finish();
}

Decoding::Decoding(const Decoder& decoder, bool early)
    : decoder_(decoder), early_(early), states_(decoder.steps_.size()) {
  bool fused = false;
  for (size_t i = 0; i < states_.size(); ++i) {
    const Decoder::Step& step = decoder.steps_[i];
    const auto* strip = std::get_if<Decoder::Strip>(&step);
    const bool is_fuse = std::holds_alternative<Decoder::Fuse>(step);
    states_[i].inside = fused;
    states_[i].waits = fused && !is_fuse && !(strip && strip->stop == 0);
    if (is_fuse || std::holds_alternative<Decoder::ByteLevel>(step)) fused = true;
  }
}

std::string Decoding::push(std::string token) {
  feed(0, std::move(token));
  return std::exchange(out_, {});
}

std::string Decoding::finish() {
  for (size_t step = 0; step < states_.size(); ++step) end(step);
  return std::exchange(out_, {});
}

void Decoding::feed(size_t step, std::string token) {
  if (step == states_.size()) {
    out_ += token;
    return;
  }
  State& state = states_[step];
  const Decoder::Step& kind = decoder_.steps_[step];
  if (state.waits) {
    state.held += token;
  } else if (std::holds_alternative<Decoder::ByteLevel>(kind)) {
    feed(step + 1, state.characters.push(bytes_of(token)));
  } else if (std::holds_alternative<Decoder::ByteFallback>(kind)) {
    if (const int byte = fallback_byte(token); byte >= 0)
      return feed_bytes(step, static_cast<uint8_t>(byte));
    end_bytes(step);
    feed(step + 1, std::move(token));
  } else if (state.inside && std::holds_alternative<Decoder::Strip>(kind)) {
    feed(step + 1, strip_stream(step, std::move(token)));
  } else {
    feed(step + 1, whole(step, std::move(token)));
  }
}

void Decoding::end(size_t step) {
  State& state = states_[step];
  const Decoder::Step& kind = decoder_.steps_[step];
  if (state.waits) {
    const bool is_bytes = std::holds_alternative<Decoder::ByteLevel>(kind);
    std::string token = std::move(state.held);
    feed(step + 1, is_bytes ? repair_utf8(bytes_of(token)) : whole(step, std::move(token)));
  } else if (std::holds_alternative<Decoder::ByteLevel>(kind)) {
    feed(step + 1, state.characters.finish());
  } else if (std::holds_alternative<Decoder::ByteFallback>(kind)) {
    end_bytes(step);
  } else if (state.inside && std::holds_alternative<Decoder::Strip>(kind)) {
    feed(step + 1, std::exchange(state.held, {}));
  }
}

// What a step makes of one whole token.
std::string Decoding::whole(size_t step, std::string token) {
  const Decoder::Step& kind = decoder_.steps_[step];
  const bool first = states_[step].count++ == 0;
  if (std::holds_alternative<Decoder::Spaces>(kind)) return first ? token : " " + token;
  if (const auto* s = std::get_if<Decoder::Strip>(&kind))
    return strip(std::move(token), s->content, s->start, s->stop);
  if (const auto* replace = std::get_if<Decoder::Replace>(&kind))
    return replace_all(replace->pattern, replace->content, token);
  if (const auto* space = std::get_if<Decoder::Metaspace>(&kind)) {
    const std::string_view content = first && space->drop_first ? "" : " ";
    return replace_all(Regex::literal(space->replacement), content, token);
  }
  if (const int byte = fallback_byte(token);
      byte >= 0 && std::holds_alternative<Decoder::ByteFallback>(kind))
    return repair_utf8(std::string(1, static_cast<char>(byte)));
  return token;
}

void Decoding::feed_bytes(size_t step, uint8_t byte) {
  State& state = states_[step];
  const char character = static_cast<char>(byte);
  if (!early_) {
    state.held += character;
    return;
  }
  std::string text = state.characters.push(std::string_view(&character, 1));
  if (!text.empty()) feed(step + 1, std::move(text));
}

void Decoding::end_bytes(size_t step) {
  State& state = states_[step];
  std::string text = early_ ? state.characters.finish() : std::exchange(state.held, {});
  if (text.empty()) return;
  if (is_valid_utf8(text)) return feed(step + 1, std::move(text));
  std::string replacement;
  append_utf8(kReplacementCharacter, replacement);
  for (size_t i = 0; i < text.size(); ++i) feed(step + 1, replacement);
}

// Strips the start of a token that comes in parts.
std::string Decoding::strip_stream(size_t step, std::string part) {
  State& state = states_[step];
  const auto& strip = std::get<Decoder::Strip>(decoder_.steps_[step]);
  size_t begin = 0;
  while (state.count < strip.start && begin < part.size()) {
    if (part.compare(begin, strip.content.size(), strip.content) != 0) {
      state.count = strip.start;  // what follows is not at the start any more
      break;
    }
    begin += strip.content.size();
    ++state.count;
  }
  return part.substr(begin);
}

}  // namespace weft::text
