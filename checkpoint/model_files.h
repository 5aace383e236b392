// A model as other programs store it: a Hugging Face folder or a GGUF file.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "checkpoint/gguf.h"
#include "checkpoint/weight_source.h"
#include "core/base/json.h"
#include "core/text/tokenizer.h"
#include "core/text/tokenizer_config.h"

namespace weft::checkpoint {

// All but the weights.
struct ModelDescription {
  std::string where;                         // path, for messages
  Json config;                               // in the form of Hugging Face's config.json
  std::optional<text::Tokenizer> tokenizer;  // none: the model came without one
  text::TokenizerConfig tokenizer_config;
  Json tokenizer_config_json;  // tokenizer_config.json as it was; null: none
  Json generation_config;      // null: none
};

struct ModelFiles {
  ModelDescription description;
  std::unique_ptr<WeightSource> weights;
};

// Opens a Hugging Face folder or a .gguf file. Weights are mapped, not read. Throws no_input when
// something is missing (saying what the path is instead), bad_data when a file breaks a rule.
ModelFiles open_model(const std::string& path);
ModelDescription open_description(const std::string& path);  // config and tokenizer only

// The description inside a GGUF file (families llama with mistral, qwen2, qwen3).
ModelDescription description_of(const GgufFile& file);

}  // namespace weft::checkpoint
