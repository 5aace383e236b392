// One YAML file is one run: all sections of a config.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/checkpoint_config.h"
#include "core/base/config.h"
#include "core/data/data_config.h"
#include "core/nn/lora_config.h"
#include "core/telemetry/log_config.h"
#include "parallel/parallel_config.h"
#include "recipes/export_config.h"
#include "recipes/train_config.h"

namespace weft::recipes {

enum class Recipe { pretrain, sft, lora };
inline constexpr EnumName<Recipe> kRecipeNames[] = {
    {Recipe::pretrain, "pretrain"}, {Recipe::sft, "sft"}, {Recipe::lora, "lora"}};

// The `model:` section: what is trained.
struct ModelSection {
  std::string path;
  std::string config;
  std::string tokenizer;
  std::string adapter;

  void visit(ConfigVisitor& v);
};

struct RunConfig {
  Recipe recipe = Recipe::lora;
  std::string output_dir;  // the run folder
  ModelSection model;
  nn::LoraConfig lora;
  data::DataConfig data;
  parallel::ParallelConfig parallel;
  TrainConfig train;
  checkpoint::CheckpointConfig checkpoint;
  ExportConfig export_;
  telemetry::LogConfig log;

  void visit(ConfigVisitor& v);
  // Also every section's own check.
  void check() const;
};

// Reads, checks, and fills in output_dir ("runs/<file's stem>") where the file does not say it.
RunConfig read_run_config(const std::string& path, const std::vector<std::string>& overrides);

// docs/config.md, made from the structs.
std::string config_document();

}  // namespace weft::recipes
