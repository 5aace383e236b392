#include "checkpoint/peft.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <set>

#include "checkpoint/export_file.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_writer.h"
#include "core/base/error.h"

namespace weft::checkpoint {
namespace {

constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kA = ".lora_A.weight", kB = ".lora_B.weight";
constexpr std::string_view kMagnitude = ".lora_magnitude_vector";
constexpr int64_t kMaxRank = 65'536;

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

template <class T>
std::optional<T> match(const std::vector<std::pair<std::string, T>>& pattern,
                       const std::string& module) {
  for (const auto& [key, value] : pattern)
    if (module == key || ends_with(module, "." + key)) return value;
  return std::nullopt;
}

class ConfigReader {
 public:
  ConfigReader(const Json& json, const std::string& where) : json_(json), where_(where) {}

  PeftConfig read() {
    if (!json_.is_object()) bad("is not an object");
    const Json* type = json_.find("peft_type");
    if (!type || !type->is_string() || type->as_string() != "LORA")
      bad("'peft_type' is {}; only LORA adapters are read", type ? type->dump() : "missing");
    config_.rank = 8, config_.alpha = 8;  // PEFT's own defaults
    for (const auto& [key, value] : json_.as_object()) member(key, value);
    return std::move(config_);
  }

 private:
  template <class... Args>
  [[noreturn]] void bad(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorKind::bad_data, "{}: {}", where_, fmt::format(format, std::forward<Args>(args)...));
  }

  void member(const std::string& key, const Json& value) {
    // What no tensor's meaning depends on.
    static const std::set<std::string> kHarmless = {
        "peft_type",      "task_type",     "auto_mapping",       "revision",
        "inference_mode", "peft_version",  "exclude_modules",    "layers_to_transform",
        "layers_pattern", "megatron_core", "qalora_group_size",  "eva_config",
        "loftq_config",   "corda_config",  "ensure_weight_tying"};
    if (kHarmless.count(key)) return;
    if (key == "base_model_name_or_path")
      return void(config_.base_model = text_or_null(key, value));
    if (key == "r") return void(config_.rank = rank(key, value));
    if (key == "lora_alpha") return void(config_.alpha = number(key, value));
    if (key == "lora_dropout") return void(config_.dropout = dropout(key, value));
    if (key == "use_rslora") return void(config_.use_rslora = boolean(key, value));
    if (key == "use_dora") return void(config_.use_dora = boolean(key, value));
    if (key == "target_modules") return targets(value);
    if (key == "init_lora_weights") return initialisation(value);
    if (key == "rank_pattern")
      return pattern(key, value, [&](auto name, auto& v) {
        config_.rank_pattern.emplace_back(name, rank(key, v));
      });
    if (key == "alpha_pattern")
      return pattern(key, value, [&](auto name, auto& v) {
        config_.alpha_pattern.emplace_back(name, number(key, v));
      });
    if (key == "bias" && value.is_string() && value.as_string() == "none") return;
    // Any other key, known to PEFT or not, must be switched off.
    const bool off = value.is_null() || (value.is_bool() && !value.as_bool()) ||
                     (value.is_array() && value.as_array().empty()) ||
                     (value.is_object() && value.as_object().empty());
    if (!off) bad("'{}' is {}, which is not supported", key, value.dump().substr(0, 200));
  }

  std::string text_or_null(const std::string& key, const Json& value) const {
    if (!value.is_null() && !value.is_string()) bad("'{}' is not a text", key);
    return value.is_null() ? "" : value.as_string();
  }
  bool boolean(const std::string& key, const Json& value) const {
    if (!value.is_null() && !value.is_bool()) bad("'{}' is not true or false", key);
    return value.is_bool() && value.as_bool();
  }
  int64_t rank(const std::string& key, const Json& value) const {
    if (!value.is_int() || value.as_int() < 1 || value.as_int() > kMaxRank)
      bad("'{}': a rank is a whole number from 1 to {}, found {}", key, kMaxRank, value.dump());
    return value.as_int();
  }
  double number(const std::string& key, const Json& value) const {
    if (!value.is_number() || !std::isfinite(value.as_double())) bad("'{}' is not a number", key);
    return value.as_double();
  }
  double dropout(const std::string& key, const Json& value) const {
    const double p = number(key, value);
    if (p < 0 || p >= 1) bad("'{}' is {}; 0 to below 1 is possible", key, p);
    return p;
  }

  // A text is a pattern or "all-linear": the tensors say what it matched.
  void targets(const Json& value) {
    if (value.is_null() || value.is_string()) return;
    if (!value.is_array()) bad("'target_modules' is neither a text nor a list");
    for (const Json& target : value.as_array()) {
      if (!target.is_string()) bad("'target_modules' holds {}, not a text", target.dump());
      config_.targets.push_back(target.as_string());
    }
  }

  void initialisation(const Json& value) const {
    if (value.is_null() || value.is_bool()) return;
    const std::string name = value.is_string() ? value.as_string() : value.dump();
    if (name == "gaussian" || name == "orthogonal" || name == "eva") return;
    bad("'init_lora_weights' is '{}': it changes the base weights, so that this adapter is wrong "
        "on "
        "the original base; convert it to a plain LoRA first",
        name);
  }

  template <class F>
  void pattern(const std::string& key, const Json& value, F add) const {
    if (value.is_null()) return;
    if (!value.is_object()) bad("'{}' is not an object", key);
    for (const auto& [name, number] : value.as_object()) {
      if (name.find_first_of("*+?()[]{}|\\^$") != std::string::npos)
        bad("'{}' has the pattern '{}'; only names are supported", key, name);
      add(name, number);
    }
  }

  const Json& json_;
  const std::string& where_;
  PeftConfig config_;
};

// adapter_model.safetensors under Weft's names.
class PeftWeights : public WeightSource {
 public:
  explicit PeftWeights(std::unique_ptr<WeightSource> file)
      : WeightSource(file->where()), file_(std::move(file)) {
    for (const WeightInfo& info : file_->weights()) {
      WeightInfo renamed = info;
      std::string_view name = info.name;
      if (name.substr(0, kPrefix.size()) == kPrefix) name.remove_prefix(kPrefix.size());
      renamed.name = name;
      add(std::move(renamed));
    }
  }

 private:
  void read_range(size_t position, int64_t begin, const Tensor& out) const override {
    file_->read(file_->weights()[position].name, begin, out);
  }
  std::unique_ptr<WeightSource> file_;
};

// The module that a tensor belongs to; throws when it is no part of a LoRA adapter.
std::string module_of(const WeightSource& weights, const WeightInfo& info) {
  for (std::string_view end : {kA, kB, kMagnitude})
    if (ends_with(info.name, end)) return info.name.substr(0, info.name.size() - end.size());
  fail(ErrorKind::bad_data,
       "{}: tensor '{}' is neither lora_A.weight, lora_B.weight nor lora_magnitude_vector of a "
       "linear layer",
       weights.where(), info.name);
}

void check_module(const PeftAdapter& adapter, const std::string& module) {
  const WeightSource& weights = *adapter.weights;
  const std::string a = module + std::string(kA), b = module + std::string(kB);
  const std::string m = module + std::string(kMagnitude);
  const auto bad = [&](const std::string& what) {
    fail(ErrorKind::bad_data, "{}: module '{}': {}", weights.where(), module, what);
  };
  if (!weights.contains(a) || !weights.contains(b)) bad("lora_A or lora_B is missing");
  const Shape &shape_a = weights.shape(a), &shape_b = weights.shape(b);
  const int64_t rank = adapter.config.rank_of(module);
  if (shape_a.rank() != 2 || shape_b.rank() != 2 || shape_a[0] != rank || shape_b[1] != rank)
    bad(fmt::format("lora_A {} and lora_B {} are not [r, in] and [out, r] of the config's rank {}",
                    shape_a.to_string(), shape_b.to_string(), rank));
  if (weights.contains(m) != adapter.config.use_dora)
    bad(adapter.config.use_dora ? "lora_magnitude_vector is missing, but use_dora is true"
                                : "lora_magnitude_vector is there, but use_dora is false");
  if (adapter.config.use_dora && !(weights.shape(m) == Shape{shape_b[0]}))
    bad(fmt::format("lora_magnitude_vector {} is not [{}]", weights.shape(m).to_string(),
                    shape_b[0]));
}

}  // namespace

int64_t PeftConfig::rank_of(const std::string& module) const {
  return match(rank_pattern, module).value_or(rank);
}
double PeftConfig::alpha_of(const std::string& module) const {
  return match(alpha_pattern, module).value_or(alpha);
}
double PeftConfig::scale_of(const std::string& module) const {
  const auto r = static_cast<double>(rank_of(module));
  return alpha_of(module) / (use_rslora ? std::sqrt(r) : r);
}

PeftConfig peft_config_of(const Json& json, const std::string& where) {
  return ConfigReader(json, where).read();
}

Json json_of(const PeftConfig& config) {
  Json::Array targets(config.targets.begin(), config.targets.end());
  Json::Object ranks, alphas;
  for (const auto& [key, rank] : config.rank_pattern) ranks.emplace_back(key, rank);
  for (const auto& [key, alpha] : config.alpha_pattern) alphas.emplace_back(key, alpha);
  const bool whole = config.alpha == std::floor(config.alpha) && std::abs(config.alpha) < 1e15;
  return Json::Object{
      {"peft_type", "LORA"},
      {"task_type", "CAUSAL_LM"},
      {"base_model_name_or_path", config.base_model.empty() ? Json() : Json(config.base_model)},
      {"revision", nullptr},
      {"inference_mode", true},
      {"r", config.rank},
      {"lora_alpha", whole ? Json(static_cast<int64_t>(config.alpha)) : Json(config.alpha)},
      {"lora_dropout", config.dropout},
      {"target_modules", std::move(targets)},
      {"bias", "none"},
      {"fan_in_fan_out", false},
      {"init_lora_weights", true},
      {"modules_to_save", nullptr},
      {"layers_to_transform", nullptr},
      {"layers_pattern", nullptr},
      {"use_rslora", config.use_rslora},
      {"use_dora", config.use_dora},
      {"rank_pattern", std::move(ranks)},
      {"alpha_pattern", std::move(alphas)},
  };
}

PeftAdapter open_peft(const std::string& folder) {
  namespace fs = std::filesystem;
  const std::string config = (fs::path(folder) / "adapter_config.json").string();
  const std::string file = (fs::path(folder) / "adapter_model.safetensors").string();
  if (!fs::exists(file) && fs::exists(fs::path(folder) / "adapter_model.bin"))
    fail(ErrorKind::no_input, "{}: only adapter_model.bin is there; convert it to safetensors",
         folder);
  PeftAdapter adapter;
  adapter.config = peft_config_of(Json::parse_file(config), config);
  adapter.weights = std::make_unique<PeftWeights>(SafetensorsWeights::open_file(file));
  std::set<std::string> seen;
  for (const WeightInfo& info : adapter.weights->weights()) {
    const std::string module = module_of(*adapter.weights, info);
    if (seen.insert(module).second) adapter.modules.push_back(module);
  }
  if (adapter.modules.empty()) fail(ErrorKind::bad_data, "{}: holds no adapter", file);
  for (const std::string& module : adapter.modules) check_module(adapter, module);
  return adapter;
}

void export_peft(const std::string& folder, const PeftConfig& config, const WeightSource& adapter,
                 DType dtype) {
  std::vector<SafetensorsPlan> plans;
  for (const WeightInfo& info : adapter.weights()) {
    module_of(adapter, info);
    plans.push_back({info.name, std::string(kPrefix) + info.name, dtype});
  }
  ExportFolder out(folder);
  write_text_file(out.file("adapter_config.json"), json_of(config).dump(2) + "\n");
  write_safetensors(out.file("adapter_model.safetensors"), adapter, std::move(plans));
  out.commit();
}

}  // namespace weft::checkpoint
