#include "core/text/added_tokens.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/text/json_fields.h"
#include "core/text/unicode.h"

namespace weft::text {
namespace {

constexpr size_t kMaxTokenBytes =
    4096;  // bounds the search, which is text times longest token at worst

// The start of the character that ends before `at`.
size_t previous(std::string_view text, size_t at) {
  do {
    --at;
  } while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

bool ends_with_word(std::string_view text) {
  if (text.empty()) return false;
  size_t at = previous(text, text.size());
  return is_word(next_code_point(text, at));
}

bool starts_with_word(std::string_view text) {
  size_t at = 0;
  return !text.empty() && is_word(next_code_point(text, at));
}

// Where the white space at the end of `text` begins; not before `least`.
size_t trailing_space(std::string_view text, size_t least) {
  size_t begin = text.size();
  while (begin > least) {
    size_t at = previous(text, begin);
    const size_t start = at;
    if (!is_whitespace(next_code_point(text, at))) break;
    begin = start;
  }
  return begin;
}

size_t leading_space(std::string_view text) {
  size_t end = 0;
  for (size_t at = 0; at < text.size(); end = at)
    if (!is_whitespace(next_code_point(text, at))) break;
  return end;
}

}  // namespace

AddedToken AddedToken::from_json(const Json& definition, const std::string& where) {
  JsonFields fields(definition, where);
  AddedToken token;
  const int64_t id = fields.integer("id");
  if (id < 0 || id > INT32_MAX)
    fail(ErrorKind::bad_data, "{}: the id {} is out of range", where, id);
  token.id = static_cast<int32_t>(id);
  token.content = fields.string("content");
  if (token.content.size() > kMaxTokenBytes)
    fail(ErrorKind::bad_data, "{}: a token of {} bytes is longer than the limit of {}", where,
         token.content.size(), kMaxTokenBytes);
  token.special = fields.boolean_or("special", false);
  token.single_word = fields.boolean_or("single_word", false);
  token.lstrip = fields.boolean_or("lstrip", false);
  token.rstrip = fields.boolean_or("rstrip", false);
  token.normalized = fields.boolean_or("normalized", !token.special);
  fields.finish();
  return token;
}

Json AddedToken::to_json() const {
  return Json::Object{{"id", id},          {"content", content}, {"single_word", single_word},
                      {"lstrip", lstrip},  {"rstrip", rstrip},   {"normalized", normalized},
                      {"special", special}};
}

TokenFinder::TokenFinder() : nodes_(1) {}

void TokenFinder::add(std::string_view spelling, const AddedToken* token) {
  if (spelling.empty()) return;
  starts_[static_cast<unsigned char>(spelling[0])] = true;
  int node = 0;
  for (const char c : spelling) {
    const auto byte = static_cast<unsigned char>(c);
    auto& next = nodes_[node].next;
    const auto found =
        std::find_if(next.begin(), next.end(), [&](const auto& n) { return n.first == byte; });
    if (found != next.end()) {
      node = found->second;
      continue;
    }
    const int child = static_cast<int>(nodes_.size());
    next.emplace_back(byte, child);
    nodes_.emplace_back();
    node = child;
  }
  if (!nodes_[node].token) nodes_[node].token = token;
}

TokenFinder::Found TokenFinder::find(std::string_view text, size_t from) const {
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!starts_[static_cast<unsigned char>(text[begin])]) continue;
    Found best;
    int node = 0;
    for (size_t at = begin; at < text.size(); ++at) {
      const auto byte = static_cast<unsigned char>(text[at]);
      const auto& next = nodes_[node].next;
      const auto edge =
          std::find_if(next.begin(), next.end(), [&](const auto& n) { return n.first == byte; });
      if (edge == next.end()) break;
      node = edge->second;
      if (nodes_[node].token) best = {begin, at + 1, nodes_[node].token};
    }
    if (best.token) return best;
  }
  return {text.size(), text.size(), nullptr};
}

std::vector<TokenFinder::Found> TokenFinder::split(std::string_view text,
                                                   bool parse_special) const {
  std::vector<Found> out;
  size_t done = 0;
  for (Found found = find(text, 0); found.token; found = find(text, found.end)) {
    const AddedToken& token = *found.token;
    if (token.special && !parse_special) continue;
    if (token.single_word &&
        (ends_with_word(text.substr(0, found.begin)) || starts_with_word(text.substr(found.end))))
      continue;
    // White space that the token before has taken is taken.
    size_t begin = found.begin, end = found.end;
    if (token.lstrip) begin = std::max(done, trailing_space(text.substr(0, begin), done));
    if (token.rstrip) end += leading_space(text.substr(end));
    if (done < begin) out.push_back({done, begin, nullptr});
    out.push_back({begin, end, found.token});
    done = end;
  }
  if (done < text.size()) out.push_back({done, text.size(), nullptr});
  return out;
}

}  // namespace weft::text
