// A model's config in two languages: GGUF's metadata and Hugging Face's config.json. Families llama
// (with mistral), qwen2 and qwen3.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/gguf.h"
#include "core/base/json.h"

namespace weft::checkpoint {

// config.json as transformers would write it for this file. Throws bad_data naming the key that is
// missing, unsupported or contradicts the tensors.
Json hf_config_of(const GgufFile& file);

// What export needs of a config.json besides its metadata.
struct GgufModel {
  std::string architecture;  // "llama", "qwen2", "qwen3"
  int64_t num_layers = 0;
  int64_t head_dim = 0;             // rows of a head, for the order of rows
  bool rotated = false;             // q and k change their order of rows
  bool tied = false;                // output.weight is left out
  std::vector<float> rope_factors;  // rope_freqs.weight; empty: none
};

// Adds the architecture's keys to `metadata`. Throws bad_data naming the key of config.json that
// GGUF cannot say.
GgufModel add_architecture(GgufMetadata& metadata, const Json& config, const std::string& where);

}  // namespace weft::checkpoint
