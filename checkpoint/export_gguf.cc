#include "checkpoint/export_gguf.h"

#include <filesystem>

#include "checkpoint/gguf_config.h"
#include "checkpoint/gguf_names.h"
#include "checkpoint/gguf_tokenizer_keys.h"
#include "checkpoint/gguf_writer.h"
#include "core/base/error.h"

namespace weft::checkpoint {
namespace {

// general.file_type: numbers of llama.cpp's own table.
int64_t file_type_of(GgmlType type) {
  switch (type) {
    case GgmlType::f32:
      return 0;
    case GgmlType::f16:
      return 1;
    case GgmlType::q8_0:
      return 7;
    case GgmlType::bf16:
      return 32;
    default:
      fail(ErrorKind::usage, "GGUF is written as f32, f16, bf16 or q8_0");
  }
}

std::string name_of(const ModelDescription& model, const GgufExportOptions& options) {
  if (!options.name.empty()) return options.name;
  const std::string stem = std::filesystem::path(model.where).stem().string();
  return stem.empty() ? "model" : stem;
}

// Vectors and norms stay F32; rows that are not whole blocks fall back to F16.
GgmlType type_for(const Shape& shape, GgmlType wanted) {
  if (shape.rank() < 2) return GgmlType::f32;
  if (wanted == GgmlType::q8_0 && shape[-1] % 32 != 0) return GgmlType::f16;
  return wanted;
}

std::vector<GgufPlan> plans_of(const WeightSource& weights, const GgufModel& model, GgmlType type) {
  std::vector<GgufPlan> plans;
  if (!model.rope_factors.empty()) {
    GgufPlan factors;
    factors.name = "rope_freqs.weight";
    factors.values = model.rope_factors;
    plans.push_back(std::move(factors));
  }
  for (const WeightInfo& info : weights.weights()) {
    if (model.tied && info.name == "lm_head.weight") continue;
    GgufPlan plan;
    plan.source_name = info.name;
    plan.name = gguf_name_of(info.name);
    if (plan.name.empty())
      fail(ErrorKind::bad_data, "{}: tensor '{}' has no name in GGUF", weights.where(), info.name);
    plan.type = type_for(info.shape, type);
    if (model.rotated && is_rotated(info.name)) plan.rotated_head_dim = model.head_dim;
    if (plan.rotated_head_dim > 0 && info.shape[0] % model.head_dim != 0)
      fail(ErrorKind::bad_data, "{}: tensor '{}' {} does not hold heads of {} rows",
           weights.where(), info.name, info.shape.to_string(), model.head_dim);
    plans.push_back(std::move(plan));
  }
  return plans;
}

}  // namespace

GgmlType gguf_export_type(std::string_view name) {
  if (name == "f32") return GgmlType::f32;
  if (name == "f16") return GgmlType::f16;
  if (name == "bf16") return GgmlType::bf16;
  if (name == "q8_0") return GgmlType::q8_0;
  fail(ErrorKind::usage, "unknown GGUF type '{}': f32, f16, bf16 and q8_0 are written", name);
}

void export_gguf(const std::string& path, const ModelDescription& model,
                 const WeightSource& weights, const GgufExportOptions& options) {
  GgufMetadata architecture(model.where);
  const GgufModel gguf = add_architecture(architecture, model.config, model.where);
  const std::vector<GgufPlan> plans = plans_of(weights, gguf, options.type);

  GgufMetadata metadata(model.where);
  metadata.add("general.architecture", GgufValue::text(gguf.architecture));
  metadata.add("general.type", GgufValue::text("model"));
  metadata.add("general.name", GgufValue::text(name_of(model, options)));
  metadata.add("general.file_type", GgufValue::u32(file_type_of(options.type)));
  if (options.type == GgmlType::q8_0)
    metadata.add("general.quantization_version", GgufValue::u32(2));
  for (const auto& [key, value] : architecture.values()) metadata.add(key, value);
  if (model.tokenizer) {
    const int64_t rows = weights.shape("model.embed_tokens.weight")[0];
    add_tokenizer_keys(metadata, text::to_gguf(*model.tokenizer, model.tokenizer_config, rows));
  } else {
    metadata.add("tokenizer.ggml.model", GgufValue::text("none"));
  }
  write_gguf(path, metadata, weights, plans);
}

}  // namespace weft::checkpoint
