#include "core/text/pretokenizer.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"
#include "core/text/byte_level.h"
#include "core/text/json_fields.h"
#include "core/text/normalizer.h"
#include "core/text/unicode.h"

namespace weft::text {
namespace {

void append_bytes(std::string_view bytes, std::string& out) {
  const auto& alphabet = byte_level_alphabet();
  for (const char c : bytes) {
    const std::string& character = alphabet[static_cast<unsigned char>(c)];
    out.append(character);
  }
}

}  // namespace

PreTokenizer::PreTokenizer(const Json& definition, const std::string& where) {
  if (!definition.is_null()) add(definition, where);
}

void PreTokenizer::add(const Json& definition, const std::string& where) {
  JsonFields fields(definition, where);
  const std::string type = fields.string("type");
  if (type == "Metaspace") {
    steps_.push_back(parse_metaspace(definition, where));
    return;
  }
  if (type == "Sequence") {
    size_t index = 0;
    for (const Json& part : fields.array("pretokenizers"))
      add(part, fmt::format("{}.pretokenizers[{}]", where, index++));
  } else if (type == "ByteLevel") {
    fields.ignore({"trim_offsets"});  // moves offsets, not ids
    const bool add_prefix_space = fields.boolean_or("add_prefix_space", true);
    steps_.push_back(ByteLevel{add_prefix_space, fields.boolean_or("use_regex", true)});
  } else if (type == "Digits") {
    steps_.push_back(Digits{fields.boolean_or("individual_digits", false)});
  } else if (type == "Split") {
    Regex pattern = pattern_from_json(fields.at("pattern"), where + ".pattern");
    const Behavior behavior = parse_behavior(fields.string("behavior"), where);
    steps_.push_back(Split{std::move(pattern), behavior, fields.boolean_or("invert", false)});
  } else {
    fail(ErrorKind::bad_data, "{}: pre-tokenizer '{}' is not supported", where, type);
  }
  fields.finish();
}

PreTokenizer::Metaspace PreTokenizer::parse_metaspace(const Json& definition,
                                                      const std::string& where) {
  JsonFields fields(definition, where);
  fields.ignore({"type", "str_rep"});
  const std::string& replacement = fields.string("replacement");
  Metaspace step{replacement, Regex::literal(replacement), Scheme::always,
                 fields.boolean_or("split", true)};
  size_t end = 0;
  if (!step.replacement.empty()) next_code_point(step.replacement, end);
  if (end == 0 || end != step.replacement.size())
    fail(ErrorKind::bad_data, "{}: 'replacement' must be one character, not '{}'", where,
         step.replacement);
  const bool add_prefix_space = fields.boolean_or("add_prefix_space", true);  // the older spelling
  const std::string scheme =
      fields.string_or("prepend_scheme", add_prefix_space ? "always" : "never");
  if (scheme == "first") {
    step.scheme = Scheme::first;
  } else if (scheme == "never") {
    step.scheme = Scheme::never;
  } else if (scheme != "always") {
    fail(ErrorKind::bad_data, "{}: prepend_scheme '{}' is not supported", where, scheme);
  }
  if (!add_prefix_space && step.scheme != Scheme::never)
    fail(ErrorKind::bad_data, "{}: add_prefix_space false contradicts prepend_scheme '{}'", where,
         scheme);
  fields.finish();
  return step;
}

PreTokenizer::Behavior PreTokenizer::parse_behavior(const std::string& name,
                                                    const std::string& where) {
  if (name == "Isolated") return Behavior::isolated;
  if (name == "Removed") return Behavior::removed;
  if (name == "MergedWithPrevious") return Behavior::merged_with_previous;
  if (name == "MergedWithNext") return Behavior::merged_with_next;
  if (name == "Contiguous") return Behavior::contiguous;
  fail(ErrorKind::bad_data, "{}: split behavior '{}' is not supported", where, name);
}

void PreTokenizer::apply(Pieces& pieces) const {
  for (const Step& step : steps_) std::visit([&](const auto& s) { run(s, pieces); }, step);
}

std::vector<PreTokenizer::Stretch> PreTokenizer::stretches(size_t size,
                                                           const std::vector<Match>& matches) {
  std::vector<Stretch> out;
  out.reserve(2 * matches.size() + 1);
  size_t last = 0;
  for (const Match& match : matches) {
    if (match.begin > last) out.push_back({{last, match.begin}, false});
    out.push_back({match, true});
    last = match.end;
  }
  if (last < size) out.push_back({{last, size}, false});
  return out;
}

// Appends the pieces of one text to `spans`, `offset` further. Empty ones are left out.
void PreTokenizer::cut(size_t offset, const std::vector<Stretch>& stretches, Behavior behavior,
                       std::vector<Match>& spans) {
  std::vector<Match> out;
  bool before = false;  // the stretch before this one matched
  const auto join = [&](const Stretch& s, bool joins) {
    if (joins && !out.empty()) {
      out.back().begin = std::min(out.back().begin, s.range.begin);
      out.back().end = std::max(out.back().end, s.range.end);
    } else {
      out.push_back(s.range);
    }
    before = s.matched;
  };
  switch (behavior) {
    case Behavior::isolated:
      for (const Stretch& s : stretches) out.push_back(s.range);
      break;
    case Behavior::removed:
      for (const Stretch& s : stretches)
        if (!s.matched) out.push_back(s.range);
      break;
    case Behavior::contiguous:
      for (const Stretch& s : stretches) join(s, s.matched == before);
      break;
    case Behavior::merged_with_previous:
      for (const Stretch& s : stretches) join(s, s.matched && !before);
      break;
    case Behavior::merged_with_next:
      for (auto s = stretches.rbegin(); s != stretches.rend(); ++s) join(*s, s->matched && !before);
      std::reverse(out.begin(), out.end());
      break;
  }
  for (const Match& range : out)
    if (range.begin < range.end) spans.push_back({offset + range.begin, offset + range.end});
}

void PreTokenizer::run(const Split& step, Pieces& pieces) {
  std::vector<Match> spans, matches;
  for (size_t i = 0; i < pieces.spans.size(); ++i) {
    const std::string_view text = pieces.piece(i);
    matches.clear();
    step.pattern.find_all(text, matches);
    std::vector<Stretch> parts = stretches(text.size(), matches);
    if (step.invert)
      for (Stretch& part : parts) part.matched = !part.matched;
    cut(pieces.spans[i].begin, parts, step.behavior, spans);
  }
  pieces.spans = std::move(spans);
}

void PreTokenizer::run(const Digits& step, Pieces& pieces) {
  std::vector<Match> spans, matches;
  for (size_t i = 0; i < pieces.spans.size(); ++i) {
    const std::string_view text = pieces.piece(i);
    matches.clear();
    for (size_t at = 0; at < text.size();) {
      const size_t begin = at;
      if (is_numeric(next_code_point(text, at))) matches.push_back({begin, at});
    }
    cut(pieces.spans[i].begin, stretches(text.size(), matches),
        step.individual ? Behavior::isolated : Behavior::contiguous, spans);
  }
  pieces.spans = std::move(spans);
}

void PreTokenizer::run(const ByteLevel& step, Pieces& pieces) {
  static const Regex pattern(kGpt2Pattern, "ByteLevel");
  Pieces out;
  out.starts_input = pieces.starts_input;
  out.text.reserve(pieces.text.size() + pieces.text.size() / 2);
  std::vector<Match> matches;
  std::string prefixed;
  for (size_t i = 0; i < pieces.spans.size(); ++i) {
    std::string_view text = pieces.piece(i);
    if (step.add_prefix_space && text[0] != ' ') text = prefixed = " " + std::string(text);
    matches.clear();
    if (step.use_regex)
      pattern.find_all(text, matches);
    else
      matches.push_back({0, text.size()});
    for (const Match& match : matches) {  // the pattern matches every character
      const size_t begin = out.text.size();
      append_bytes(text.substr(match.begin, match.end - match.begin), out.text);
      out.spans.push_back({begin, out.text.size()});
    }
  }
  pieces = std::move(out);
}

void PreTokenizer::run(const Metaspace& step, Pieces& pieces) {
  Pieces out;
  out.starts_input = pieces.starts_input;
  std::vector<Match> matches;
  for (size_t i = 0; i < pieces.spans.size(); ++i) {
    std::string text;
    for (const char c : pieces.piece(i)) c == ' ' ? text += step.replacement : text += c;
    const bool first = pieces.starts_input && pieces.spans[i].begin == 0;
    const bool wanted = step.scheme == Scheme::always || (step.scheme == Scheme::first && first);
    if (wanted && text.compare(0, step.replacement.size(), step.replacement) != 0)
      text.insert(0, step.replacement);
    matches.clear();
    if (step.split) step.pattern.find_all(text, matches);
    cut(out.text.size(), stretches(text.size(), matches), Behavior::merged_with_next, out.spans);
    out.text += text;
  }
  pieces = std::move(out);
}

}  // namespace weft::text
