// Writes a folder that transformers, vLLM and llama.cpp's converter load.
#pragma once

#include <string>

#include "checkpoint/model_files.h"
#include "checkpoint/safetensors_writer.h"

namespace weft::checkpoint {

struct HfExportOptions {
  DType dtype = DType::bf16;  // of all weights
  int64_t max_shard_bytes = kMaxShardBytes;
  std::string run_config;  // written as weft.yaml; empty: none
};

// config.json, generation_config.json, tokenizer.json, tokenizer_config.json and the weights. The
// folder appears whole or not at all; an older export of the same name is replaced.
void export_hf(const std::string& folder, const ModelDescription& model,
               const WeightSource& weights, const HfExportOptions& options = {});

// The config that export_hf writes: the rotary keys of transformers 4 and 5, and both dtype keys.
Json hf_export_config(Json config, DType dtype);

}  // namespace weft::checkpoint
