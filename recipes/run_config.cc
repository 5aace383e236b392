#include "recipes/run_config.h"

#include <filesystem>

#include "core/base/error.h"

namespace weft::recipes {

void ModelSection::visit(ConfigVisitor& v) {
  v.field("path", path, "model to start from: a Hugging Face folder or a .gguf file");
  v.field("config", config,
          "`pretrain` from random weights: a Hugging Face config.json (instead of `path`)");
  v.field("tokenizer", tokenizer,
          "tokenizer.json, a folder with one, or a .gguf file; empty: the model's");
  v.field("adapter", adapter, "`lora`: a PEFT adapter to go on from");
}

void RunConfig::visit(ConfigVisitor& v) {
  v.field("recipe", recipe, kRecipeNames,
          "`pretrain`: all weights on plain text; `sft`: all weights on answers; `lora`: adapters "
          "on answers");
  v.field("output_dir", output_dir, "the run folder; empty: `runs/` and the config file's name")
      .may_change();
  v.section("model", model, "What is trained.");
  v.section("lora", lora, "Adapters, for `recipe: lora`. The words are PEFT's.");
  v.section("data", data, "What it is trained on.");
  v.section("parallel", parallel, "How the ranks of `mpirun` share the work.").may_change();
  v.section("train", train, "How it is trained.");
  v.section("checkpoint", checkpoint, "When the run is saved, and what is kept.").may_change();
  v.section("export", export_, "What a finished run writes by itself; see `weft export`.")
      .may_change();
  v.section("log", log, "What is shown and written while it runs.").may_change();
}

void RunConfig::check() const {
  if (model.path.empty() && model.config.empty())
    fail(ErrorKind::usage,
         "model.path is missing: name a Hugging Face folder or a .gguf file (or, to pretrain from "
         "random weights, model.config)");
  if (!model.path.empty() && !model.config.empty())
    fail(ErrorKind::usage, "model.path and model.config both say what the model is: keep one");
  if (!model.config.empty() && recipe != Recipe::pretrain)
    fail(ErrorKind::usage,
         "model.config starts from random weights, which only 'recipe: pretrain' "
         "does; the recipe is '{}'",
         enum_name(recipe, kRecipeNames));
  if (!model.config.empty() && model.tokenizer.empty())
    fail(ErrorKind::usage, "model.config has no tokenizer of its own: set model.tokenizer");
  if (!model.adapter.empty() && recipe != Recipe::lora)
    fail(ErrorKind::usage, "model.adapter needs 'recipe: lora'; the recipe is '{}'",
         enum_name(recipe, kRecipeNames));
  if (data.train.empty()) fail(ErrorKind::usage, "data.train is missing: name a file to train on");
  if (recipe != Recipe::lora)
    for (const std::string& format : export_.formats)
      if (format == "peft")
        fail(ErrorKind::usage,
             "export.formats: 'peft' writes an adapter, which only 'recipe: lora' "
             "has");
  const bool watches_eval = train.eval_every > 0 || train.early_stop > 0 || checkpoint.keep_best;
  if (watches_eval && data.eval.empty() && data.eval_share == 0)
    fail(ErrorKind::usage,
         "train.eval_every, train.early_stop and checkpoint.keep_best need held-out records: set "
         "data.eval or data.eval_share");
  if ((train.early_stop > 0 || checkpoint.keep_best) && train.eval_every == 0)
    fail(ErrorKind::usage, "train.early_stop and checkpoint.keep_best need train.eval_every");
  lora.check();
  data.check();
  parallel.check();
  train.check();
  export_.check();
}

RunConfig read_run_config(const std::string& path, const std::vector<std::string>& overrides) {
  RunConfig config = read_config<RunConfig>(path, overrides);
  if (config.output_dir.empty())
    config.output_dir = "runs/" + std::filesystem::path(path).stem().string();
  return config;
}

std::string config_document() {
  return R"(# The configuration of a run

<!-- Made by `weft train --keys`; a test compares the two. Change the structs, not this file. -->

One YAML file is one run: `weft train run.yaml`. Keys that are not given have the defaults below, and an
unknown key is an error. `key=value` behind the file's name overrides it:

    weft train run.yaml train.lr=1e-4 lora.targets=q_proj,v_proj data.train.0.path=other.jsonl

Numbers may be written `1e-4`, sizes `512MB` or `2GiB`, times `45s`, `30min`, `2h`. Paths are relative to
the folder in which `weft` is started. A key without a value (`eval:`) keeps its default. YAML's anchors and
merge keys work.

A run goes on by itself when it is started again with the same run folder. The last column says which keys
may then differ from those that it was started with; any other difference is an error that names both
values.

)" + config_markdown<RunConfig>();
}

}  // namespace weft::recipes
