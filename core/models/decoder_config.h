// What a decoder of the Llama family is, read from Hugging Face's config.json. A family is data:
// which biases and norms it has and which names differ.
#pragma once

#include <optional>
#include <string>

#include "core/base/json.h"

namespace weft::models {

// Llama 3's stretching of low rotary frequencies (transformers: modeling_rope_utils, "llama3").
struct Llama3RopeScaling {
  double factor = 8;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  int64_t original_max_position_embeddings = 8192;
};

struct DecoderConfig {
  std::string model_type;  // llama, mistral, qwen2, qwen3
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t max_position_embeddings = 0;
  int64_t sliding_window = 0;  // 0: none. Sequences longer than it are refused
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000;
  std::optional<Llama3RopeScaling> rope_scaling;
  double initializer_range = 0.02;
  bool tie_word_embeddings = false;
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;

  // The longest sequence that the model computes rightly.
  int64_t max_sequence() const;
  // Parameters of the blocks and the final norm, for FLOP counts.
  int64_t block_parameters() const;
  // FLOP of one trained token at sequence length s, ANCHORS convention (causal, no input
  // embedding): 6 (N_block + V h) + 6 L h s, two thirds of it with a frozen base.
  double flops_per_token(int64_t sequence, bool frozen_base) const;
};

// `where` names the file in errors. Every field that changes what the model computes is either
// implemented or refused by name; sizes are checked before any arithmetic.
DecoderConfig parse_decoder_config(const Json& config, const std::string& where);

}  // namespace weft::models
