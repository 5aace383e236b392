#include "core/models/decoder_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <string_view>

#include "core/base/error.h"

namespace weft::models {
namespace {

constexpr int64_t kMaxSize = int64_t{1} << 24;  // of any dimension: beyond it a file is lying

struct Family {
  std::string_view model_type;
  bool qkv_bias;            // always, whatever attention_bias says
  bool attention_bias_key;  // attention_bias and mlp_bias are honoured
  bool qk_norm;
  int64_t default_head_dim;  // 0: hidden_size / num_attention_heads
  double default_rope_theta;
};
constexpr std::array<Family, 4> kFamilies = {{
    {"llama", false, true, false, 0, 10000},
    {"mistral", false, false, false, 0, 10000},
    {"qwen2", true, false, false, 0, 10000},
    {"qwen3", false, true, true, 128, 10000},
}};

// Keys that say nothing about what a causal model computes.
constexpr std::string_view kAboutTheFiles[] = {"architectures",
                                               "model_type",
                                               "torch_dtype",
                                               "dtype",
                                               "transformers_version",
                                               "bos_token_id",
                                               "eos_token_id",
                                               "pad_token_id",
                                               "unk_token_id",
                                               "sep_token_id",
                                               "tokenizer_class",
                                               "_name_or_path",
                                               "is_llama_config",
                                               "transformers.js_config",
                                               "unsloth_version",
                                               "unsloth_fixed",
                                               "language",
                                               "license"};
constexpr std::string_view kAboutGeneration[] = {"max_length",
                                                 "min_length",
                                                 "do_sample",
                                                 "temperature",
                                                 "top_k",
                                                 "top_p",
                                                 "typical_p",
                                                 "num_beams",
                                                 "num_beam_groups",
                                                 "diversity_penalty",
                                                 "repetition_penalty",
                                                 "length_penalty",
                                                 "no_repeat_ngram_size",
                                                 "encoder_no_repeat_ngram_size",
                                                 "num_return_sequences",
                                                 "early_stopping",
                                                 "exponential_decay_length_penalty",
                                                 "remove_invalid_values",
                                                 "begin_suppress_tokens",
                                                 "suppress_tokens",
                                                 "forced_bos_token_id",
                                                 "forced_eos_token_id",
                                                 "decoder_start_token_id",
                                                 "prefix",
                                                 "use_cache"};
constexpr std::string_view kAboutTransformers[] = {
    "_attn_implementation", "_attn_implementation_autoset", "attn_implementation",
    "chunk_size_feed_forward", "return_dict", "output_attentions", "output_hidden_states",
    "use_bfloat16", "torchscript", "id2label", "label2id", "problem_type", "task_specific_params",
    "finetuning_task",
    // Which layers have the sliding window: no sequence is longer than it.
    "max_window_layers", "layer_types", "use_sliding_window"};

bool is_harmless(std::string_view key) {
  const auto in = [&](const auto& keys) {
    return std::count(std::begin(keys), std::end(keys), key);
  };
  return in(kAboutTheFiles) || in(kAboutGeneration) || in(kAboutTransformers);
}

class Reader {
 public:
  Reader(const Json& config, const std::string& where) : config_(config), where_(where) {}

  [[noreturn]] void refuse(const std::string& what) const {
    fail(ErrorKind::bad_data, "{}: {}", where_, what);
  }

  const Json* get(const char* key) {
    used_.insert(key);
    const Json* value = config_.find(key);
    return value && !value->is_null() ? value : nullptr;
  }
  int64_t size(const char* key, int64_t fallback = 0) {
    const Json* value = get(key);
    if (!value && fallback > 0) return fallback;
    if (!value) refuse(fmt::format("key '{}' is missing", key));
    if (!value->is_int()) refuse(fmt::format("'{}' must be an integer, is {}", key, value->dump()));
    if (value->as_int() < 1 || value->as_int() > kMaxSize)
      refuse(fmt::format("'{}' is {}, must be 1 to {}", key, value->as_int(), kMaxSize));
    return value->as_int();
  }
  static double number(const Json& value, const char* key, const Reader& reader) {
    if (!value.is_number() || !std::isfinite(value.as_double()) || value.as_double() <= 0)
      reader.refuse(fmt::format("'{}' must be a positive number, is {}", key, value.dump()));
    return value.as_double();
  }
  double positive(const char* key, double fallback) {
    const Json* value = get(key);
    return value ? number(*value, key, *this) : fallback;
  }
  bool flag(const char* key, bool fallback) {
    const Json* value = get(key);
    if (!value) return fallback;
    if (!value->is_bool())
      refuse(fmt::format("'{}' must be true or false, is {}", key, value->dump()));
    return value->as_bool();
  }

  // What nobody read must be empty or known to be harmless.
  void refuse_unread() const {
    for (const auto& [key, value] : config_.as_object()) {
      if (used_.count(key) || is_harmless(key)) continue;
      const bool empty = value.is_null() || (value.is_bool() && !value.as_bool()) ||
                         (value.is_number() && value.as_double() == 0) ||
                         (value.is_string() && value.as_string().empty()) ||
                         (value.is_array() && value.as_array().empty()) ||
                         (value.is_object() && value.as_object().empty());
      if (!empty)
        refuse(
            fmt::format("key '{}' = {} is not supported: remove it only if the model does not "
                        "depend on it",
                        key, value.dump().substr(0, 80)));
    }
  }

 private:
  const Json& config_;
  const std::string& where_;
  std::set<std::string, std::less<>> used_;
};

const Family& family_of(Reader& reader) {
  const Json* type = reader.get("model_type");
  if (!type || !type->is_string()) reader.refuse("key 'model_type' is missing");
  for (const Family& family : kFamilies)
    if (family.model_type == type->as_string()) return family;
  reader.refuse(fmt::format("model_type '{}' is not supported (llama, mistral, qwen2, qwen3 are)",
                            type->as_string()));
}

// Both forms: rope_parameters (transformers 5), rope_theta + rope_scaling (4).
void read_rope(Reader& reader, DecoderConfig& c, double default_theta) {
  c.rope_theta = reader.positive("rope_theta", default_theta);
  const Json* new_form = reader.get("rope_parameters");
  const Json* old_form = reader.get("rope_scaling");
  for (const Json* rope : {old_form, new_form}) {
    if (!rope) continue;
    if (!rope->is_object()) reader.refuse("rope parameters must be an object");
    if (const Json* theta = rope->find("rope_theta"))
      c.rope_theta = Reader::number(*theta, "rope_theta", reader);
    const Json* type = rope->find("rope_type");
    if (!type) type = rope->find("type");
    const std::string name = type && type->is_string() ? type->as_string() : "default";
    if (name == "default") continue;
    if (name != "llama3")
      reader.refuse(fmt::format("rope type '{}' is not supported (default and llama3 are)", name));
    auto value = [&](const char* key) {
      const Json* v = rope->find(key);
      if (!v) reader.refuse(fmt::format("rope type llama3 without '{}'", key));
      return Reader::number(*v, key, reader);
    };
    c.rope_scaling = Llama3RopeScaling{.factor = value("factor"),
                                       .low_freq_factor = value("low_freq_factor"),
                                       .high_freq_factor = value("high_freq_factor"),
                                       .original_max_position_embeddings = static_cast<int64_t>(
                                           value("original_max_position_embeddings"))};
    if (c.rope_scaling->low_freq_factor >= c.rope_scaling->high_freq_factor)
      reader.refuse("rope type llama3: low_freq_factor must be below high_freq_factor");
  }
}

void refuse_unimplemented(Reader& reader) {
  if (const Json* act = reader.get("hidden_act"); act && *act != Json("silu"))
    reader.refuse(fmt::format("hidden_act {} is not supported (silu is)", act->dump()));
  for (const char* key : {"attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop"})
    if (const Json* p = reader.get(key); p && !(p->is_number() && p->as_double() == 0))
      reader.refuse(fmt::format("'{}' = {} is not implemented: set it to 0 to train without it",
                                key, p->dump()));
  if (const Json* tp = reader.get("pretraining_tp"); tp && *tp != Json(1))
    reader.refuse("pretraining_tp other than 1 is not supported");
  if (reader.get("quantization_config"))
    reader.refuse("the weights are quantised (quantization_config): start from the 16-bit model");
  if (reader.flag("rope_interleaved", false)) reader.refuse("rope_interleaved is not supported");
  if (const Json* p = reader.get("partial_rotary_factor"); p && p->as_double() != 1)
    reader.refuse("partial_rotary_factor other than 1 is not supported");
  if (reader.flag("is_encoder_decoder", false)) reader.refuse("encoder-decoders are not supported");
  if (const Json* m = reader.get("auto_map"); m && m->is_object() && !m->as_object().empty())
    reader.refuse("the model brings its own code (auto_map), which weft never runs");
}

int64_t read_sliding_window(Reader& reader, const DecoderConfig& c) {
  const Json* window = reader.get("sliding_window");
  if (!window) return 0;
  const bool qwen = c.model_type == "qwen2" || c.model_type == "qwen3";
  if (qwen && !reader.flag("use_sliding_window", false)) return 0;
  return reader.size("sliding_window");
}

}  // namespace

DecoderConfig parse_decoder_config(const Json& config, const std::string& where) {
  if (!config.is_object()) fail(ErrorKind::bad_data, "{}: not a JSON object", where);
  Reader reader(config, where);
  const Family& family = family_of(reader);
  DecoderConfig c;
  c.model_type = family.model_type;
  c.vocab_size = reader.size("vocab_size");
  c.hidden_size = reader.size("hidden_size");
  c.intermediate_size = reader.size("intermediate_size");
  c.num_hidden_layers = reader.size("num_hidden_layers");
  c.num_attention_heads = reader.size("num_attention_heads");
  c.num_key_value_heads = reader.size("num_key_value_heads", c.num_attention_heads);
  if (c.num_hidden_layers > 4096) reader.refuse("more than 4096 layers");
  if (c.num_attention_heads % c.num_key_value_heads != 0)
    reader.refuse(fmt::format("num_key_value_heads {} does not divide num_attention_heads {}",
                              c.num_key_value_heads, c.num_attention_heads));
  const bool divides = c.hidden_size % c.num_attention_heads == 0;
  const int64_t head_dim = family.default_head_dim ? family.default_head_dim
                           : divides               ? c.hidden_size / c.num_attention_heads
                                                   : 0;
  c.head_dim = reader.size("head_dim", head_dim);
  if (c.head_dim % 2 != 0) reader.refuse(fmt::format("head_dim {} is odd", c.head_dim));
  c.max_position_embeddings = reader.size("max_position_embeddings", 2048);
  c.rms_norm_eps = reader.positive("rms_norm_eps", 1e-6);
  c.initializer_range = reader.positive("initializer_range", 0.02);
  c.tie_word_embeddings = reader.flag("tie_word_embeddings", false);
  const bool attention_bias = reader.flag("attention_bias", false);
  const bool mlp_bias = reader.flag("mlp_bias", false);
  if (!family.attention_bias_key && (attention_bias || mlp_bias))
    reader.refuse(fmt::format("{} has no attention_bias or mlp_bias", c.model_type));
  c.qkv_bias = family.qkv_bias || attention_bias;
  c.o_bias = attention_bias;
  c.mlp_bias = mlp_bias;
  c.qk_norm = family.qk_norm;
  read_rope(reader, c, family.default_rope_theta);
  c.sliding_window = read_sliding_window(reader, c);
  refuse_unimplemented(reader);
  reader.refuse_unread();
  return c;
}

int64_t DecoderConfig::max_sequence() const {
  return sliding_window > 0 ? std::min(sliding_window, max_position_embeddings)
                            : max_position_embeddings;
}

int64_t DecoderConfig::block_parameters() const {
  const int64_t q = num_attention_heads * head_dim, kv = num_key_value_heads * head_dim;
  const int64_t attention = hidden_size * (q + 2 * kv) + q * hidden_size +
                            (qkv_bias ? q + 2 * kv : 0) + (o_bias ? hidden_size : 0) +
                            (qk_norm ? 2 * head_dim : 0);
  const int64_t mlp =
      3 * hidden_size * intermediate_size + (mlp_bias ? 2 * intermediate_size + hidden_size : 0);
  return num_hidden_layers * (attention + mlp + 2 * hidden_size) + hidden_size;
}

double DecoderConfig::flops_per_token(int64_t sequence, bool frozen_base) const {
  const double products = static_cast<double>(block_parameters()) +
                          static_cast<double>(vocab_size) * static_cast<double>(hidden_size);
  const double attention = static_cast<double>(num_hidden_layers) *
                           static_cast<double>(num_attention_heads * head_dim) *
                           static_cast<double>(sequence);
  return (frozen_base ? 4 : 6) * (products + attention);
}

}  // namespace weft::models
