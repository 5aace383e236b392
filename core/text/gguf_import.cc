#include <utility>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/text/gguf_tokenizer.h"
#include "core/text/spm_merges.h"
#include "core/text/unicode.h"

namespace weft::text {
namespace {

constexpr const char* kSpaceMark = "\u2581";

GgufTokenType type_of(const GgufTokenizer& gguf, size_t id) {
  return gguf.types.empty() ? GgufTokenType::normal : static_cast<GgufTokenType>(gguf.types[id]);
}

void check(const GgufTokenizer& gguf, const std::string& where) {
  const size_t count = gguf.tokens.size();
  if (count == 0) fail(ErrorKind::bad_data, "{}: tokenizer.ggml.tokens is empty", where);
  if (!gguf.types.empty() && gguf.types.size() != count)
    fail(ErrorKind::bad_data, "{}: {} tokens but {} token types", where, count, gguf.types.size());
  if (gguf.model == "llama" && gguf.scores.size() != count)
    fail(ErrorKind::bad_data, "{}: {} tokens but {} scores", where, count, gguf.scores.size());
  for (size_t id = 0; id < count; ++id)
    if (!is_valid_utf8(gguf.tokens[id]))
      fail(ErrorKind::bad_data, "{}: the token {} is not valid UTF-8", where, id);
  for (size_t i = 0; i < gguf.merges.size(); ++i)
    if (!is_valid_utf8(gguf.merges[i]))
      fail(ErrorKind::bad_data, "{}: merge {} is not valid UTF-8", where, i);
  for (const int32_t type : gguf.types)
    if (type < 1 || type > 6) fail(ErrorKind::bad_data, "{}: unknown token type {}", where, type);
  const std::pair<const char*, int32_t> roles[] = {
      {"bos", gguf.bos}, {"eos", gguf.eos}, {"padding", gguf.pad}, {"unknown", gguf.unk}};
  for (const auto& [role, id] : roles)
    if (id < -1 || id >= static_cast<int64_t>(count))
      fail(ErrorKind::bad_data, "{}: tokenizer.ggml.{}_token_id is {}, but there are {} tokens",
           where, role, id, count);
}

// Tokens without the padding at the end.
size_t real_count(const GgufTokenizer& gguf) {
  size_t count = gguf.tokens.size();
  while (count > 1 && type_of(gguf, count - 1) == GgufTokenType::unused &&
         gguf.tokens[count - 1] == fmt::format("[PAD{}]", count - 1))
    --count;
  return count;
}

Json added_tokens(const GgufTokenizer& gguf, size_t count) {
  Json::Array out;
  for (size_t id = 0; id < count; ++id) {
    const GgufTokenType type = type_of(gguf, id);
    const bool special = type == GgufTokenType::control || type == GgufTokenType::unknown;
    if (!special && type != GgufTokenType::user_defined) continue;
    AddedToken token;
    token.id = static_cast<int32_t>(id);
    token.content = gguf.tokens[id];
    token.normalized = false;
    token.special = special;
    if (!token.content.empty()) out.push_back(token.to_json());
  }
  return out;
}

Json vocabulary(const GgufTokenizer& gguf, size_t count) {
  Json::Object out;
  out.reserve(count);
  for (size_t id = 0; id < count; ++id) out.emplace_back(gguf.tokens[id], id);
  return out;
}

Json byte_level() {
  return Json::Object{{"type", "ByteLevel"},
                      {"add_prefix_space", false},
                      {"trim_offsets", true},
                      {"use_regex", true}};
}

// `otherwise` when nothing is added around a text.
Json post_processor(const GgufTokenizer& gguf, bool add_bos, bool add_eos, const Json& otherwise) {
  Json::Array single, pair;
  Json special = Json::Object{};
  const auto add_token = [&](Json::Array& out, int32_t id, int type_id) {
    const std::string& token = gguf.tokens[id];
    out.push_back(
        Json::Object{{"SpecialToken", Json::Object{{"id", token}, {"type_id", type_id}}}});
    special.set(
        token,
        Json::Object{{"id", token}, {"ids", Json::Array{id}}, {"tokens", Json::Array{token}}});
  };
  const auto add_text = [&](Json::Array& out, const char* name, int type_id) {
    if (add_bos) add_token(out, gguf.bos, type_id);
    out.push_back(Json::Object{{"Sequence", Json::Object{{"id", name}, {"type_id", type_id}}}});
    if (add_eos) add_token(out, gguf.eos, type_id);
  };
  if (!add_bos && !add_eos) return otherwise;
  add_text(single, "A", 0);
  add_text(pair, "A", 0);
  add_text(pair, "B", 1);
  return Json::Object{{"type", "TemplateProcessing"},
                      {"single", single},
                      {"pair", pair},
                      {"special_tokens", special}};
}

Json model_json(Json vocab, Json::Array merges, const Json& unk_token, bool ignore_merges,
                bool sentencepiece) {
  return Json::Object{{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", unk_token},
                      {"continuing_subword_prefix", nullptr},
                      {"end_of_word_suffix", nullptr},
                      {"fuse_unk", sentencepiece},
                      {"byte_fallback", sentencepiece},
                      {"ignore_merges", ignore_merges},
                      {"vocab", std::move(vocab)},
                      {"merges", std::move(merges)}};
}

Json file_json(Json added, Json normalizer, Json pre_tokenizer, Json post) {
  return Json::Object{{"version", "1.0"},
                      {"truncation", nullptr},
                      {"padding", nullptr},
                      {"added_tokens", std::move(added)},
                      {"normalizer", std::move(normalizer)},
                      {"pre_tokenizer", std::move(pre_tokenizer)},
                      {"post_processor", std::move(post)}};
}

Json gpt2_json(const GgufTokenizer& gguf, bool add_bos, bool add_eos, const GgufPre& pre) {
  const size_t count = real_count(gguf);
  Json out = file_json(added_tokens(gguf, count), pre.normalizer, pre.pre_tokenizer,
                       post_processor(gguf, add_bos, add_eos, byte_level()));
  Json::Array merges;
  merges.reserve(gguf.merges.size());
  for (const std::string& merge : gguf.merges) merges.emplace_back(merge);
  out.set("decoder", byte_level());
  out.set("model",
          model_json(vocabulary(gguf, count), std::move(merges), nullptr, pre.ignore_merges,
                     /*sentencepiece=*/false));
  return out;
}

Json llama_json(const GgufTokenizer& gguf, bool add_bos, bool add_eos) {
  const size_t count = real_count(gguf);
  const bool space_prefix = gguf.add_space_prefix.value_or(true);
  const auto replace = [](const char* from, const char* to) {
    return Json::Object{
        {"type", "Replace"}, {"pattern", Json::Object{{"String", from}}}, {"content", to}};
  };
  Json::Array normalizers, decoders;
  if (space_prefix)
    normalizers.push_back(Json::Object{{"type", "Prepend"}, {"prepend", kSpaceMark}});
  normalizers.push_back(replace(" ", kSpaceMark));
  decoders.push_back(replace(kSpaceMark, " "));
  decoders.push_back(Json::Object{{"type", "ByteFallback"}});
  decoders.push_back(Json::Object{{"type", "Fuse"}});
  if (space_prefix)
    decoders.push_back(
        Json::Object{{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});

  Json::Array merges;
  for (const auto& [left, right] : merges_from_scores(gguf.tokens, gguf.scores, gguf.types))
    merges.push_back(Json::Array{gguf.tokens[left], gguf.tokens[right]});
  Json out = file_json(added_tokens(gguf, count),
                       Json::Object{{"type", "Sequence"}, {"normalizers", normalizers}}, nullptr,
                       post_processor(gguf, add_bos, add_eos, nullptr));
  out.set("decoder", Json::Object{{"type", "Sequence"}, {"decoders", decoders}});
  const Json unk = gguf.unk >= 0 ? Json(gguf.tokens[gguf.unk]) : Json();
  out.set("model",
          model_json(vocabulary(gguf, count), std::move(merges), unk, /*ignore_merges=*/false,
                     /*sentencepiece=*/true));
  return out;
}

}  // namespace

ImportedTokenizer from_gguf(const GgufTokenizer& original, const std::string& where) {
  GgufTokenizer gguf = original;
  check(gguf, where);
  Json definition;
  bool add_bos = false;
  const bool add_eos = gguf.add_eos.value_or(false) && gguf.eos >= 0;
  if (gguf.model == "gpt2") {
    const GgufPre* pre = find_gguf_pre(gguf.pre);
    if (!pre)
      fail(ErrorKind::bad_data, "{}: tokenizer.ggml.pre '{}' is not supported", where, gguf.pre);
    if (gguf.pre.empty())
      log::warn(
          "{}: tokenizer.ggml.pre is missing, 'default' is taken: ids may differ from the model's "
          "own",
          where);
    add_bos = gguf.add_bos.value_or(pre->adds_bos) && gguf.bos >= 0;
    definition = gpt2_json(gguf, add_bos, add_eos, *pre);
  } else if (gguf.model == "llama") {
    const auto defaults_to = [&](int32_t& role, int32_t id) {  // as llama.cpp does
      if (role < 0 && id < static_cast<int64_t>(gguf.tokens.size())) role = id;
    };
    defaults_to(gguf.unk, 0);
    defaults_to(gguf.bos, 1);
    defaults_to(gguf.eos, 2);
    add_bos = gguf.add_bos.value_or(true) && gguf.bos >= 0;
    definition = llama_json(gguf, add_bos, add_eos);
  } else {
    fail(ErrorKind::bad_data,
         "{}: tokenizer.ggml.model '{}' is not supported, only 'gpt2' and 'llama'", where,
         gguf.model);
  }
  TokenizerConfig config;
  const auto content = [&](int32_t id) { return id >= 0 ? gguf.tokens[id] : std::string(); };
  config.bos_token = content(gguf.bos);
  config.eos_token = content(gguf.eos);
  config.pad_token = content(gguf.pad);
  config.unk_token = content(gguf.unk);
  config.add_bos_token = add_bos;
  config.add_eos_token = add_eos;
  config.chat_template = gguf.chat_template;
  return {Tokenizer::from_json(definition, where + ": tokenizer"), std::move(config)};
}

}  // namespace weft::text
