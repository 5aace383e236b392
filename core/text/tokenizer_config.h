// tokenizer_config.json: which tokens have a role, and the chat template. The file describes a
// Python class too; unknown keys are no concern of ours.
#pragma once

#include <optional>
#include <string>

#include "core/base/json.h"
#include "core/text/tokenizer.h"

namespace weft::text {

struct TokenizerConfig {
  // Contents of tokens; empty: none.
  std::string bos_token, eos_token, pad_token, unk_token;
  std::optional<bool> add_bos_token, add_eos_token;
  std::string chat_template;  // Jinja; of several, the one named "default". Empty: none.

  static TokenizerConfig from_json(const Json& definition, const std::string& where);
  // Reads tokenizer_config.json of a model folder, with special_tokens_map.json for tokens that it
  // does not name and chat_template.jinja, which goes first. All three may be absent.
  static TokenizerConfig from_folder(const std::string& folder);

  // A tokenizer_config.json that transformers reads (the chat template inside).
  Json to_json() const;
};

// The tokens with a role as a chat template wants them: {"bos_token": "<s>", ...}; those that there
// are.
Json special_token_texts(const TokenizerConfig& config);

// The roles as ids of a tokenizer. -1: none.
struct SpecialIds {
  int32_t bos = -1, eos = -1, pad = -1, unk = -1;
  // Whether a text starts with BOS and ends with EOS: the config's word, else what the tokenizer's
  // post-processor adds.
  bool add_bos = false, add_eos = false;
};

// Throws bad_data when the config names a token that the tokenizer does not have.
SpecialIds special_ids(const Tokenizer& tokenizer, const TokenizerConfig& config);

}  // namespace weft::text
