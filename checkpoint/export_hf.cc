#include "checkpoint/export_hf.h"

#include "checkpoint/export_file.h"
#include "core/base/error.h"

namespace weft::checkpoint {
namespace {

const Json* find(const Json& object, const char* key) {
  const Json* value = object.find(key);
  return value && !value->is_null() ? value : nullptr;
}

Json without(const Json& object, const std::string& key) {
  Json::Object out;
  for (const auto& [name, value] : object.as_object())
    if (name != key) out.emplace_back(name, value);
  return out;
}

// transformers 4: rope_theta and rope_scaling; 5: rope_parameters. The newer form wins.
void write_both_rope_forms(Json& config) {
  if (const Json* parameters = find(config, "rope_parameters")) {
    const Json* theta = parameters->find("rope_theta");
    if (!theta) return;  // a table for each kind of layer: no older form can say it
    const Json* type = parameters->find("rope_type");
    const bool plain = !type || *type == Json("default");
    const Json scaling = plain ? Json() : without(*parameters, "rope_theta");
    const Json base = *theta;
    config.set("rope_theta", base);
    config.set("rope_scaling", scaling);
    return;
  }
  Json parameters;
  parameters.set("rope_type", "default");
  if (const Json* scaling = find(config, "rope_scaling")) {
    for (const auto& [key, value] : scaling->as_object())
      parameters.set(key == "type" ? "rope_type" : key, value);
  }
  const Json* theta = find(config, "rope_theta");
  parameters.set("rope_theta", theta ? *theta : Json(10000.0));
  if (!theta) config.set("rope_theta", 10000.0);
  config.set("rope_parameters", std::move(parameters));
}

const char* torch_name(DType dtype) {
  if (dtype == DType::bf16) return "bfloat16";
  return dtype == DType::f16 ? "float16" : "float32";
}

// What was there, with the roles and the template that the description has now.
Json tokenizer_config_of(const ModelDescription& model) {
  const Json now = model.tokenizer_config.to_json();
  if (model.tokenizer_config_json.is_null()) return now;
  Json out = model.tokenizer_config_json;
  for (const char* key : {"bos_token", "eos_token", "pad_token", "unk_token"})
    if (!find(out, key) && find(now, key)) out.set(key, now.at(key));
  // Several named templates stay as they were.
  const Json* templates = out.find("chat_template");
  const bool named = templates && templates->is_array();
  if (!model.tokenizer_config.chat_template.empty() && !named)
    out.set("chat_template", model.tokenizer_config.chat_template);
  return out;
}

std::vector<SafetensorsPlan> plans_of(const WeightSource& weights, bool tied, DType dtype) {
  std::vector<SafetensorsPlan> plans;
  for (const WeightInfo& info : weights.weights())
    if (!tied || info.name != "lm_head.weight") plans.push_back({info.name, info.name, dtype});
  return plans;
}

}  // namespace

Json hf_export_config(Json config, DType dtype) {
  write_both_rope_forms(config);
  config.set("torch_dtype", torch_name(dtype));
  config.set("dtype", torch_name(dtype));
  return config;
}

void export_hf(const std::string& folder, const ModelDescription& model,
               const WeightSource& weights, const HfExportOptions& options) {
  const Json* tie = find(model.config, "tie_word_embeddings");
  const bool tied = tie && tie->is_bool() && tie->as_bool();
  ExportFolder out(folder);
  const auto write = [&](const char* name, const Json& json) {
    write_text_file(out.file(name), json.dump(2) + "\n");
  };
  write("config.json", hf_export_config(model.config, options.dtype));
  if (!model.generation_config.is_null()) write("generation_config.json", model.generation_config);
  if (model.tokenizer) {
    write("tokenizer.json", model.tokenizer->to_json());
    write("tokenizer_config.json", tokenizer_config_of(model));
  }
  if (!options.run_config.empty()) write_text_file(out.file("weft.yaml"), options.run_config);
  write_safetensors_folder(out.folder(), weights, plans_of(weights, tied, options.dtype),
                           options.max_shard_bytes);
  out.commit();
}

}  // namespace weft::checkpoint
