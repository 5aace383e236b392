#include "core/text/normalizer.h"

#include <utility>

#include "core/base/error.h"
#include "core/text/json_fields.h"

namespace weft::text {
namespace {

std::string strip(std::string_view text, bool left, bool right) {
  size_t begin = text.size(), end = 0;  // of what is not white space
  for (size_t at = 0; at < text.size();) {
    const size_t start = at;
    if (is_whitespace(next_code_point(text, at))) continue;
    begin = std::min(begin, start);
    end = at;
  }
  if (!left) begin = 0;
  if (!right) end = text.size();
  return begin < end ? std::string(text.substr(begin, end - begin)) : std::string();
}

}  // namespace

Regex pattern_from_json(const Json& pattern, const std::string& where) {
  JsonFields fields(pattern, where);
  const bool is_regex = fields.find("Regex") != nullptr;
  Regex regex =
      is_regex ? Regex(fields.string("Regex"), where) : Regex::literal(fields.string("String"));
  fields.finish();
  return regex;
}

std::string replace_all(const Regex& pattern, std::string_view content, std::string_view text) {
  std::vector<Match> matches;
  pattern.find_all(text, matches);
  std::string out;
  out.reserve(text.size() + matches.size() * content.size());
  size_t last = 0;
  for (const Match& match : matches) {
    out += text.substr(last, match.begin - last);
    out += content;
    last = match.end;
  }
  out += text.substr(last);
  return out;
}

Normalizer::Normalizer(const Json& definition, const std::string& where) {
  if (!definition.is_null()) add(definition, where);
}

void Normalizer::add(const Json& definition, const std::string& where) {
  JsonFields fields(definition, where);
  const std::string type = fields.string("type");
  if (type == "Sequence") {
    size_t index = 0;
    for (const Json& part : fields.array("normalizers"))
      add(part, fmt::format("{}.normalizers[{}]", where, index++));
  } else if (type == "NFC") {
    steps_.push_back(Form{NormalForm::nfc});
  } else if (type == "NFD") {
    steps_.push_back(Form{NormalForm::nfd});
  } else if (type == "NFKC") {
    steps_.push_back(Form{NormalForm::nfkc});
  } else if (type == "NFKD") {
    steps_.push_back(Form{NormalForm::nfkd});
  } else if (type == "Lowercase") {
    steps_.push_back(Lowercase{});
  } else if (type == "Strip") {
    steps_.push_back(Strip{fields.boolean("strip_left"), fields.boolean("strip_right")});
  } else if (type == "Prepend") {
    steps_.push_back(Prepend{fields.string("prepend")});
  } else if (type == "Replace") {
    Regex pattern = pattern_from_json(fields.at("pattern"), where + ".pattern");
    steps_.push_back(Replace{std::move(pattern), fields.string("content")});
  } else {
    fail(ErrorKind::bad_data, "{}: normalizer '{}' is not supported", where, type);
  }
  fields.finish();
}

std::string Normalizer::run(const Step& step, std::string text) {
  if (const auto* form = std::get_if<Form>(&step)) return normalize(text, form->form);
  if (std::holds_alternative<Lowercase>(step)) return to_lower(text);
  if (const auto* s = std::get_if<Strip>(&step)) return strip(text, s->left, s->right);
  if (const auto* prepend = std::get_if<Prepend>(&step))
    return text.empty() ? text : prepend->prefix + text;
  const auto& replace = std::get<Replace>(step);
  return replace_all(replace.pattern, replace.content, text);
}

std::string Normalizer::apply(std::string text) const {
  for (const Step& step : steps_) text = run(step, std::move(text));
  return text;
}

}  // namespace weft::text
