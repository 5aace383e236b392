// LoRA and DoRA adapters in PEFT's folder form: adapter_config.json and adapter_model.safetensors.
// Inside Weft a tensor is named "<module>.lora_A.weight", "<module>.lora_B.weight" and
// "<module>.lora_magnitude_vector", where <module> is "model.layers.0.self_attn.q_proj"; in the
// file each name begins with "base_model.model.".
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/weight_source.h"
#include "core/base/json.h"

namespace weft::checkpoint {

struct PeftConfig {
  std::string base_model;  // name or path, as the config says it
  int64_t rank = 8;
  double alpha = 8;
  double dropout = 0;
  bool use_rslora = false;
  bool use_dora = false;
  std::vector<std::string> targets;  // last parts of module names ("q_proj") or whole names
  // For the modules whose name is the key or ends in ".<key>"; the first match counts.
  std::vector<std::pair<std::string, int64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;

  int64_t rank_of(const std::string& module) const;
  double alpha_of(const std::string& module) const;
  double scale_of(const std::string& module) const;  // alpha / rank, or alpha / sqrt(rank)
};

// Throws bad_data naming a key that is wrong, or set to something that Weft does not do
// (modules_to_save, bias, PiSSA, ...): nothing is ignored.
PeftConfig peft_config_of(const Json& json, const std::string& where);
Json json_of(const PeftConfig& config);

struct PeftAdapter {
  PeftConfig config;
  std::vector<std::string> modules;  // in the order of the file
  std::unique_ptr<WeightSource> weights;
};

// Throws no_input when a file is missing, bad_data when the tensors are not whole pairs of the
// ranks that the config says.
PeftAdapter open_peft(const std::string& folder);

// Writes all weights of `adapter`, whose names are Weft's. Throws as the safetensors writer.
void export_peft(const std::string& folder, const PeftConfig& config, const WeightSource& adapter,
                 DType dtype);

}  // namespace weft::checkpoint
