// Writes one GGUF file that llama.cpp loads: weights, config, tokenizer and chat template.
#pragma once

#include <string>
#include <string_view>

#include "checkpoint/model_files.h"
#include "checkpoint/quant_blocks.h"

namespace weft::checkpoint {

struct GgufExportOptions {
  GgmlType type = GgmlType::q8_0;  // of matrices; vectors are F32
  std::string name;                // general.name; empty: the model's folder or file
};

// "f32", "f16", "bf16" or "q8_0". Throws usage.
GgmlType gguf_export_type(std::string_view name);

// Families llama, mistral, qwen2 and qwen3. Throws bad_data naming what GGUF cannot say; io when
// the file cannot be written whole, and then nothing is under `path`.
void export_gguf(const std::string& path, const ModelDescription& model,
                 const WeightSource& weights, const GgufExportOptions& options = {});

}  // namespace weft::checkpoint
