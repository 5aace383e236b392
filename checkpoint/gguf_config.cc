#include "checkpoint/gguf_config.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "checkpoint/quant_blocks.h"
#include "checkpoint/rope_scaling.h"
#include "core/base/error.h"

namespace weft::checkpoint {
namespace {

// The shortest decimal that is this float: 9.99999974e-06 was 1e-05 before it was stored.
double shortest(double value) {
  char text[64];
  const auto end = std::to_chars(text, text + sizeof(text), static_cast<float>(value)).ptr;
  return std::strtod(std::string(text, end).c_str(), nullptr);
}

class ConfigOfGguf {
 public:
  explicit ConfigOfGguf(const GgufFile& file)
      : file_(file), metadata_(file.metadata()), arch_(metadata_.text("general.architecture")) {}

  Json build() {
    if (arch_ != "llama" && arch_ != "qwen2" && arch_ != "qwen3")
      bad("architecture '{}' is not supported: llama (and mistral), qwen2 and qwen3 are", arch_);
    if (metadata_.text_or("general.type", "model") != "model")
      bad("general.type is '{}', not 'model'", metadata_.text("general.type"));
    if (metadata_.contains(arch_ + ".expert_count") && count("expert_count") > 0)
      bad("mixtures of experts are not supported");
    add_names();
    add_sizes();
    add_rope();
    add_tokens();
    return std::move(config_);
  }

 private:
  template <class... Args>
  [[noreturn]] void bad(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorKind::bad_data, "{}: {}", file_.path(),
         fmt::format(format, std::forward<Args>(args)...));
  }

  std::string key(const char* name) const { return arch_ + "." + name; }
  bool has(const char* name) const { return metadata_.contains(key(name)); }

  int64_t count(const char* name) const {
    const int64_t value = metadata_.integer(key(name));
    if (value < 0 || value > INT32_MAX) bad("key '{}' is {}", key(name), value);
    return value;
  }
  int64_t positive(const char* name) const {
    const int64_t value = count(name);
    if (value < 1) bad("key '{}' is {}", key(name), value);
    return value;
  }
  double positive_number(const char* name, double fallback) const {
    const double value = shortest(metadata_.number_or(key(name), fallback));
    if (!std::isfinite(value) || value <= 0) bad("key '{}' is {}", key(name), value);
    return value;
  }

  void add_names() {
    const std::string name = arch_ == "llama"   ? "LlamaForCausalLM"
                             : arch_ == "qwen2" ? "Qwen2ForCausalLM"
                                                : "Qwen3ForCausalLM";
    config_.set("architectures", Json(Json::Array{name}));
    config_.set("model_type", arch_);
  }

  void add_sizes() {
    hidden_ = positive("embedding_length");
    heads_ = positive("attention.head_count");
    const int64_t kv_heads =
        has("attention.head_count_kv") ? positive("attention.head_count_kv") : heads_;
    head_dim_ = has("attention.key_length") ? positive("attention.key_length") : hidden_ / heads_;
    if (!has("attention.key_length") && hidden_ % heads_ != 0)
      bad("embedding_length {} is not a multiple of head_count {}", hidden_, heads_);
    if (has("attention.value_length") && positive("attention.value_length") != head_dim_)
      bad("attention.value_length differs from key_length: not supported");
    config_.set("hidden_size", hidden_);
    config_.set("intermediate_size", positive("feed_forward_length"));
    config_.set("num_hidden_layers", positive("block_count"));
    config_.set("num_attention_heads", heads_);
    config_.set("num_key_value_heads", kv_heads);
    config_.set("head_dim", head_dim_);
    config_.set("hidden_act", "silu");
    config_.set("max_position_embeddings", positive("context_length"));
    config_.set("rms_norm_eps", positive_number("attention.layer_norm_rms_epsilon", 0));
    config_.set("initializer_range", 0.02);
    config_.set("use_cache", true);
    config_.set("attention_dropout", 0.0);
    config_.set("vocab_size", embedding().shape[0]);
    config_.set("tie_word_embeddings", file_.find("output.weight") == nullptr);
    const bool bias = file_.find("blk.0.attn_q.bias") != nullptr;
    if (arch_ != "qwen2") config_.set("attention_bias", bias);
    if (arch_ == "llama") config_.set("mlp_bias", file_.find("blk.0.ffn_gate.bias") != nullptr);
    if (arch_ != "llama") config_.set("use_sliding_window", false);
    const uint32_t type = embedding().ggml_type;
    const char* dtype = type == 0 ? "float32" : type == 1 ? "float16" : "bfloat16";
    config_.set("torch_dtype", dtype);
  }

  const GgufTensor& embedding() const {
    const GgufTensor* tensor = file_.find("token_embd.weight");
    if (!tensor || tensor->shape.rank() != 2)
      bad("tensor 'token_embd.weight' is missing or not a matrix");
    return *tensor;
  }

  void add_rope() {
    const double theta = positive_number("rope.freq_base", 10000);
    if (has("rope.dimension_count") && count("rope.dimension_count") != head_dim_)
      bad("rope.dimension_count {} is not the head's size {}: partial rotation is not supported",
          count("rope.dimension_count"), head_dim_);
    config_.set("rope_theta", theta);
    const std::string type = metadata_.text_or(key("rope.scaling.type"), "none");
    const GgufTensor* factors = file_.find("rope_freqs.weight");
    if (type != "none" && factors) bad("both rope.scaling.type and rope_freqs.weight are there");
    if (factors) return config_.set("rope_scaling", scaling_of(*factors, theta));
    if (type == "none") return config_.set("rope_scaling", nullptr);
    Json scaling;
    scaling.set("rope_type", type);
    scaling.set("factor", positive_number("rope.scaling.factor", 0));
    if (has("rope.scaling.original_context_length"))
      scaling.set("original_max_position_embeddings",
                  positive("rope.scaling.original_context_length"));
    config_.set("rope_scaling", std::move(scaling));
  }

  Json scaling_of(const GgufTensor& tensor, double theta) const {
    if (tensor.ggml_type != 0 || tensor.shape.numel() != head_dim_ / 2)
      bad("tensor 'rope_freqs.weight' is not F32 of {} elements", head_dim_ / 2);
    std::vector<float> factors(static_cast<size_t>(head_dim_ / 2));
    std::memcpy(factors.data(), file_.data(tensor).data(), tensor.bytes);
    const auto scaling = llama3_scaling_of(factors, theta);
    if (!scaling)
      bad("tensor 'rope_freqs.weight' is no Llama-3 scaling with low 1 and high 4: the original "
          "config.json is needed; take the model's Hugging Face folder");
    Json json;
    json.set("rope_type", "llama3");
    json.set("factor", shortest(scaling->factor));
    json.set("low_freq_factor", scaling->low_freq_factor);
    json.set("high_freq_factor", scaling->high_freq_factor);
    json.set("original_max_position_embeddings", static_cast<int64_t>(scaling->original_context));
    return json;
  }

  void add_tokens() {
    for (const auto& [hf, gguf] :
         {std::pair{"bos_token_id", "bos_token_id"}, std::pair{"eos_token_id", "eos_token_id"},
          std::pair{"pad_token_id", "padding_token_id"}}) {
      const std::string name = std::string("tokenizer.ggml.") + gguf;
      if (metadata_.contains(name)) config_.set(hf, metadata_.integer(name));
    }
  }

  const GgufFile& file_;
  const GgufMetadata& metadata_;
  const std::string arch_;
  int64_t hidden_ = 0, heads_ = 0, head_dim_ = 0;
  Json config_;
};

// Reads a config.json; an absent or null key takes the fallback.
class ConfigReader {
 public:
  ConfigReader(const Json& config, const std::string& where) : config_(config), where_(where) {}

  template <class... Args>
  [[noreturn]] void bad(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorKind::bad_data, "{}: {}", where_, fmt::format(format, std::forward<Args>(args)...));
  }

  const Json* find(const char* key) const {
    const Json* value = config_.find(key);
    return value && !value->is_null() ? value : nullptr;
  }
  std::string text(const char* key) const {
    const Json* value = find(key);
    if (!value || !value->is_string()) bad("'{}' is missing or not a text", key);
    return value->as_string();
  }
  bool boolean(const char* key, bool fallback) const {
    const Json* value = find(key);
    if (value && !value->is_bool()) bad("'{}' is not true or false", key);
    return value ? value->as_bool() : fallback;
  }
  int64_t positive(const char* key, int64_t fallback = 0) const {
    const Json* value = find(key);
    const int64_t number = value && value->is_int() ? value->as_int() : value ? 0 : fallback;
    if (number < 1 || number > INT32_MAX) bad("'{}' is missing or not a positive integer", key);
    return number;
  }
  double number(const char* key, double fallback) const {
    return number_of(find(key), key, fallback);
  }
  double number_of(const Json* value, const char* key, double fallback) const {
    const double number = value && value->is_number() ? value->as_double() : value ? NAN : fallback;
    if (!std::isfinite(number) || number <= 0) bad("'{}' is missing or not a positive number", key);
    return number;
  }

 private:
  const Json& config_;
  const std::string& where_;
};

// The rotary part: transformers 5 writes rope_parameters, 4 rope_theta and rope_scaling.
void add_rope(GgufMetadata& metadata, const ConfigReader& config, GgufModel& model) {
  const Json* parameters = config.find("rope_parameters");
  const Json* scaling = parameters ? parameters : config.find("rope_scaling");
  const Json* theta = parameters ? parameters->find("rope_theta") : nullptr;
  const double base =
      config.number_of(theta ? theta : config.find("rope_theta"), "rope_theta", 10000);
  metadata.add(model.architecture + ".rope.freq_base", GgufValue::f32(base));
  metadata.add(model.architecture + ".rope.dimension_count", GgufValue::u32(model.head_dim));
  if (!scaling) return;
  const Json* type = scaling->find("rope_type");
  if (!type) type = scaling->find("type");
  const std::string name = type && type->is_string() ? type->as_string() : "default";
  if (name == "default") return;
  if (name != "llama3") config.bad("rotary scaling '{}' cannot be exported to GGUF", name);
  const auto get = [&](const char* key) { return config.number_of(scaling->find(key), key, 0); };
  const Llama3Scaling values{get("factor"), get("low_freq_factor"), get("high_freq_factor"),
                             get("original_max_position_embeddings")};
  if (values.high_freq_factor <= values.low_freq_factor)
    config.bad("high_freq_factor must be above low_freq_factor");
  model.rope_factors = llama3_rope_factors(model.head_dim, base, values);
}

}  // namespace

Json hf_config_of(const GgufFile& file) {
  return ConfigOfGguf(file).build();
}

GgufModel add_architecture(GgufMetadata& metadata, const Json& json, const std::string& where) {
  const ConfigReader config(json, where);
  const std::string type = config.text("model_type");
  GgufModel model;
  model.architecture = type == "mistral" ? "llama" : type;
  if (model.architecture != "llama" && type != "qwen2" && type != "qwen3")
    config.bad("model_type '{}' cannot be exported to GGUF: llama, mistral, qwen2 and qwen3 can",
               type);
  const int64_t heads = config.positive("num_attention_heads");
  const int64_t kv_heads = config.positive("num_key_value_heads", heads);
  const int64_t hidden = config.positive("hidden_size");
  model.head_dim = config.positive("head_dim", type == "qwen3" ? 128 : hidden / heads);
  model.num_layers = config.positive("num_hidden_layers");
  model.rotated = model.architecture == "llama";
  model.tied = config.boolean("tie_word_embeddings", false);
  if (model.head_dim % 2 != 0) config.bad("head_dim {} is odd", model.head_dim);
  int64_t context = config.positive("max_position_embeddings");
  // llama.cpp knows no window in these architectures: it is right up to the window only.
  const bool window = type == "mistral" ? config.find("sliding_window") != nullptr
                                        : config.boolean("use_sliding_window", false);
  if (window) context = std::min(context, config.positive("sliding_window"));

  const std::string arch = model.architecture + ".";
  metadata.add(arch + "context_length", GgufValue::u32(context));
  metadata.add(arch + "embedding_length", GgufValue::u32(hidden));
  metadata.add(arch + "block_count", GgufValue::u32(model.num_layers));
  metadata.add(arch + "feed_forward_length", GgufValue::u32(config.positive("intermediate_size")));
  metadata.add(arch + "attention.head_count", GgufValue::u32(heads));
  metadata.add(arch + "attention.head_count_kv", GgufValue::u32(kv_heads));
  metadata.add(arch + "attention.layer_norm_rms_epsilon",
               GgufValue::f32(config.number("rms_norm_eps", 1e-6)));
  metadata.add(arch + "attention.key_length", GgufValue::u32(model.head_dim));
  metadata.add(arch + "attention.value_length", GgufValue::u32(model.head_dim));
  metadata.add(arch + "vocab_size", GgufValue::u32(config.positive("vocab_size")));
  add_rope(metadata, config, model);
  return model;
}

}  // namespace weft::checkpoint
