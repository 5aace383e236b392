// Small models with random weights, in memory: config.json and the tensors that it asks for.
#pragma once

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/model_files.h"
#include "checkpoint/weight_source.h"

namespace weft::test {

struct SmallModel {
  checkpoint::ModelDescription description;
  std::vector<checkpoint::ExpectedWeight> expected;
  std::shared_ptr<checkpoint::MemoryWeights> weights;
};

// hidden 64, 2 layers, 4 heads and 2 kv heads of 16 (qwen3: of 32), ffn 96, vocabulary 160.
// family: "llama", "llama3" (untied, scaled rotary), "mistral", "qwen2" (tied), "qwen3".
inline SmallModel small_model(const std::string& family) {
  const bool llama3 = family == "llama3", qwen2 = family == "qwen2", qwen3 = family == "qwen3";
  const int64_t hidden = 64, heads = 4, kv_heads = 2, ffn = 96, vocab = 160;
  const int64_t head_dim = qwen3 ? 32 : 16;
  SmallModel out;
  Json& config = out.description.config;
  out.description.where = "tiny-" + family;
  config.set("model_type", llama3 ? "llama" : family);
  config.set("hidden_size", hidden);
  config.set("intermediate_size", ffn);
  config.set("num_hidden_layers", 2);
  config.set("num_attention_heads", heads);
  config.set("num_key_value_heads", kv_heads);
  config.set("head_dim", head_dim);
  config.set("vocab_size", vocab);
  config.set("max_position_embeddings", 512);
  config.set("rms_norm_eps", 1e-5);
  config.set("rope_theta", 10000.0);
  config.set("tie_word_embeddings", qwen2);
  if (family == "mistral") config.set("sliding_window", 128);
  if (llama3)
    config.set("rope_scaling", Json::Object{{"rope_type", "llama3"},
                                            {"factor", 8.0},
                                            {"low_freq_factor", 1.0},
                                            {"high_freq_factor", 4.0},
                                            {"original_max_position_embeddings", 64}});

  auto& expected = out.expected;
  expected.push_back({"model.embed_tokens.weight", {vocab, hidden}});
  for (int layer = 0; layer < 2; ++layer) {
    const std::string at = "model.layers." + std::to_string(layer) + ".";
    expected.push_back({at + "input_layernorm.weight", {hidden}});
    for (const auto& [name, rows] :
         {std::pair{"q", heads}, std::pair{"k", kv_heads}, std::pair{"v", kv_heads}}) {
      const std::string projection = at + "self_attn." + name + "_proj.";
      expected.push_back({projection + "weight", {rows * head_dim, hidden}});
      if (qwen2) expected.push_back({projection + "bias", {rows * head_dim}});
    }
    if (qwen3)
      for (const char* name : {"q", "k"})
        expected.push_back({at + "self_attn." + name + "_norm.weight", {head_dim}});
    expected.push_back({at + "self_attn.o_proj.weight", {hidden, heads * head_dim}});
    expected.push_back({at + "post_attention_layernorm.weight", {hidden}});
    expected.push_back({at + "mlp.gate_proj.weight", {ffn, hidden}});
    expected.push_back({at + "mlp.up_proj.weight", {ffn, hidden}});
    expected.push_back({at + "mlp.down_proj.weight", {hidden, ffn}});
  }
  expected.push_back({"model.norm.weight", {hidden}});
  if (!qwen2) expected.push_back({"lm_head.weight", {vocab, hidden}});

  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, 0.05f);
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const auto& [name, shape] : expected) {
    Tensor tensor = Tensor::empty(shape, DType::f32);
    for (int64_t i = 0; i < tensor.numel(); ++i) tensor.data<float>()[i] = normal(random);
    tensors.emplace_back(name, std::move(tensor));
  }
  out.weights = std::make_shared<checkpoint::MemoryWeights>(std::move(tensors));
  return out;
}

}  // namespace weft::test
