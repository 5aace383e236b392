#include <algorithm>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/text/gguf_tokenizer.h"
#include "core/text/normalizer.h"
#include "core/text/spm_merges.h"

namespace weft::text {
namespace {

constexpr const char* kSpaceMark = "\u2581";

const Json& member(const Json& object, const char* key) {
  static const Json kNull;
  const Json* value = object.find(key);
  return value ? *value : kNull;
}

bool is_true(const Json& object, const char* key) {
  return member(object, key) == Json(true);
}

bool has_type(const Json& object, const char* type) {
  return member(object, "type") == Json(type);
}

std::pair<std::string, std::string> merge_of(const Json& merge) {
  if (merge.is_array()) return {merge.as_array()[0].as_string(), merge.as_array()[1].as_string()};
  const std::string& line = merge.as_string();
  const size_t space = line.find(' ');
  return {line.substr(0, space), line.substr(space + 1)};
}

// Whether spaces become U+2581, and whether one is put in front: as SentencePiece does.
struct SpaceStyle {
  bool is_sentencepiece = false;
  bool prefix = false;
};

SpaceStyle space_style(const Json& file) {
  const Json& pre = member(file, "pre_tokenizer");
  if (has_type(pre, "Metaspace") && member(pre, "split") == Json(false) &&
      member(pre, "replacement") == Json(kSpaceMark) && member(file, "normalizer").is_null()) {
    const Json& scheme = member(pre, "prepend_scheme");
    return {true, !(scheme == Json("never")) && !(member(pre, "add_prefix_space") == Json(false))};
  }
  const Json& normalizer = member(file, "normalizer");
  if (!pre.is_null() || !has_type(normalizer, "Sequence")) return {};
  const Json replace = Json::Object{
      {"type", "Replace"}, {"pattern", Json::Object{{"String", " "}}}, {"content", kSpaceMark}};
  const Json prepend = Json::Object{{"type", "Prepend"}, {"prepend", kSpaceMark}};
  const Json& steps = member(normalizer, "normalizers");
  if (steps == Json(Json::Array{replace})) return {true, false};
  return {steps == Json(Json::Array{prepend, replace}), true};
}

// Tokens and types; what has no token is padding.
void fill_tokens(const Tokenizer& tokenizer, int64_t rows, bool has_bytes, GgufTokenizer& gguf) {
  if (rows < tokenizer.vocab_size())
    fail(ErrorKind::bad_data, "the tokenizer has ids up to {}, but the embedding only {} rows",
         tokenizer.vocab_size() - 1, rows);
  for (int32_t id = 0; id < rows; ++id) {
    const auto token = tokenizer.token_of(id);
    GgufTokenType type = token ? GgufTokenType::normal : GgufTokenType::unused;
    if (has_bytes && token && token->size() == 6 && token->compare(0, 3, "<0x") == 0)
      type = GgufTokenType::byte;
    std::string text = token ? *token : fmt::format("[PAD{}]", id);
    while (!token && tokenizer.id_of(text)) text += "_";
    gguf.tokens.push_back(std::move(text));
    gguf.types.push_back(static_cast<int32_t>(type));
  }
  for (const AddedToken& token : tokenizer.added_tokens()) {
    const auto type = token.special ? GgufTokenType::control : GgufTokenType::user_defined;
    gguf.types[token.id] = static_cast<int32_t>(type);
  }
}

void fill_gpt2(const Json& file, GgufTokenizer& gguf) {
  const Json& model = file.at("model");
  const GgufPre* pre = match_gguf_pre(member(file, "pre_tokenizer"));
  if (!pre || is_true(model, "byte_fallback") || !has_type(member(file, "decoder"), "ByteLevel"))
    fail(ErrorKind::unavailable,
         "this tokenizer cannot be written into a GGUF: none of the pre-tokenizers of llama.cpp "
         "that are "
         "known here (gpt-2, smollm, llama-bpe, qwen2, deepseek-v3, deepseek-coder, default) is {}",
         member(file, "pre_tokenizer").dump());
  const Json& normalizer = member(file, "normalizer");
  if (!Normalizer(normalizer, "normalizer").is_identity() && !(normalizer == pre->normalizer))
    log::warn("GGUF: llama.cpp does not apply the normalizer {}: its ids may differ",
              normalizer.dump());
  if (is_true(model, "ignore_merges") != pre->ignore_merges)
    log::warn("GGUF: llama.cpp has ignore_merges {} for '{}': its ids may differ",
              pre->ignore_merges, pre->name);
  gguf.model = "gpt2";
  gguf.pre = pre->name;
  for (const Json& merge : model.at("merges").as_array()) {
    const auto [left, right] = merge_of(merge);
    if (left.find(' ') != left.npos || right.find(' ') != right.npos)
      fail(ErrorKind::unavailable,
           "GGUF: the merge of '{}' and '{}' has a space and cannot be written", left, right);
    gguf.merges.push_back(left + " " + right);
  }
}

// Whether scores say the same: for each token all pairs that make it, one token after the other.
bool follows_from_scores(const GgufTokenizer& gguf,
                         std::vector<std::pair<int32_t, int32_t>> pairs) {
  auto derived = merges_from_scores(gguf.tokens, gguf.scores, gguf.types);
  std::unordered_map<std::string_view, int32_t> ids;
  for (size_t id = 0; id < gguf.tokens.size(); ++id) ids.emplace(gguf.tokens[id], id);
  const auto score = [&](const std::pair<int32_t, int32_t>& pair) {
    return gguf.scores[ids.at(gguf.tokens[pair.first] + gguf.tokens[pair.second])];
  };
  const auto stronger = [&](const auto& a, const auto& b) { return score(a) > score(b); };
  if (!std::is_sorted(pairs.begin(), pairs.end(), stronger)) return false;
  std::sort(pairs.begin(), pairs.end());
  std::sort(derived.begin(), derived.end());
  return pairs == derived;
}

// A token's score is minus the rank of the first merge that makes it; what no merge makes comes
// last.
void fill_llama(const Tokenizer& tokenizer, const Json& file, GgufTokenizer& gguf) {
  const auto& merges = file.at("model").at("merges").as_array();
  gguf.model = "llama";
  gguf.pre = "default";
  gguf.scores.assign(gguf.tokens.size(), -static_cast<float>(merges.size()) - 1);
  std::vector<bool> scored(gguf.tokens.size());
  std::vector<std::pair<int32_t, int32_t>> pairs;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto [left, right] = merge_of(merges[rank]);
    const int32_t merged = *tokenizer.id_of(left + right);
    pairs.emplace_back(*tokenizer.id_of(left), *tokenizer.id_of(right));
    if (!scored[merged]) gguf.scores[merged] = -static_cast<float>(rank);
    scored[merged] = true;
  }
  const Json& unk = member(file.at("model"), "unk_token");
  if (unk.is_string())
    gguf.types[*tokenizer.id_of(unk.as_string())] = static_cast<int32_t>(GgufTokenType::unknown);
  if (!follows_from_scores(gguf, std::move(pairs)))
    log::warn(
        "GGUF: the merges of this tokenizer do not follow from scores: llama.cpp's ids may differ");
}

}  // namespace

GgufTokenizer to_gguf(const Tokenizer& tokenizer, const TokenizerConfig& config, int64_t rows) {
  GgufTokenizer gguf;
  const Json file = tokenizer.to_json();
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const Json& affix = member(file.at("model"), key);
    if (affix.is_string() && !affix.as_string().empty())
      fail(ErrorKind::unavailable,
           "this tokenizer cannot be written into a GGUF: llama.cpp has no {}", key);
  }
  const SpaceStyle style = space_style(file);
  const bool sentencepiece = style.is_sentencepiece && is_true(file.at("model"), "byte_fallback");
  fill_tokens(tokenizer, rows, sentencepiece, gguf);
  if (sentencepiece) {
    fill_llama(tokenizer, file, gguf);
    gguf.add_space_prefix = style.prefix;
  } else {
    fill_gpt2(file, gguf);
    gguf.add_space_prefix = false;
  }
  const SpecialIds ids = special_ids(tokenizer, config);
  gguf.bos = ids.bos;
  gguf.eos = ids.eos;
  gguf.pad = ids.pad;
  gguf.unk = ids.unk;
  gguf.add_bos = ids.add_bos;
  gguf.add_eos = ids.add_eos;
  gguf.chat_template = config.chat_template;
  return gguf;
}

}  // namespace weft::text
