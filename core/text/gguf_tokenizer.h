// The tokenizer of a GGUF file ("tokenizer.ggml.*") and its relation to tokenizer.json. The file
// format itself is checkpoint's business.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/text/tokenizer.h"
#include "core/text/tokenizer_config.h"

namespace weft::text {

// Values of tokenizer.ggml.token_type.
enum class GgufTokenType : int32_t { normal = 1, unknown, control, user_defined, unused, byte };

struct GgufTokenizer {
  std::string model;                // "gpt2" (byte-level BPE) or "llama" (SentencePiece's BPE)
  std::string pre;                  // how gpt2 cuts the text before BPE; empty: "default"
  std::vector<std::string> tokens;  // by id
  std::vector<float> scores;        // of llama: the merge of highest score goes first
  std::vector<int32_t> types;       // GgufTokenType; empty: all normal
  std::vector<std::string> merges;  // of gpt2: "a b", strongest first
  int32_t bos = -1, eos = -1, pad = -1, unk = -1;
  std::optional<bool> add_bos, add_eos, add_space_prefix;
  std::string chat_template;
};

struct ImportedTokenizer {
  Tokenizer tokenizer;
  TokenizerConfig config;
};

// Throws bad_data: an unknown model or pre, lists whose lengths differ, ids out of range, a token
// twice.
ImportedTokenizer from_gguf(const GgufTokenizer& gguf, const std::string& where);

// `rows` of the embedding: tokens are padded with "[PAD{i}]" up to it. Throws unavailable when
// llama.cpp has no name for the way that this tokenizer cuts text, bad_data when rows <
// vocab_size().
GgufTokenizer to_gguf(const Tokenizer& tokenizer, const TokenizerConfig& config, int64_t rows);

// What a `pre` stands for; shared by both directions.
struct GgufPre {
  std::string name;
  Json normalizer;
  Json pre_tokenizer;
  bool ignore_merges = false;
  bool adds_bos = false;  // when the file does not say
};
const GgufPre* find_gguf_pre(std::string_view name);  // aliases too; nullptr: unknown
// The pre whose pre-tokenizer does the same as this definition; nullptr: none.
const GgufPre* match_gguf_pre(const Json& pre_tokenizer);

}  // namespace weft::text
