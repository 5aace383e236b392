#include "recipes/run_config.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "core/base/error.h"
#include "tests/support/errors.h"
#include "tests/support/test_data.h"

namespace weft::recipes {
namespace {

using Overrides = std::vector<std::string>;

Overrides with(Overrides more) {
  Overrides all = {"model.path=m", "data.train=d.jsonl"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

std::string error(const Overrides& overrides, ErrorKind kind = ErrorKind::usage) {
  return test::error_of(kind, [&] { read_config<RunConfig>("", overrides); });
}

TEST(RunConfig, ModelAndDataAreEnough) {
  const RunConfig config = read_config<RunConfig>("", with({}));
  EXPECT_EQ(config.recipe, Recipe::lora);
  EXPECT_EQ(config.lora.scale(), 2);
  EXPECT_EQ(config.data.train.at(0).path, "d.jsonl");
}

TEST(RunConfig, ReadsTheKeysOfTheDocuments) {
  test::TempDir dir;
  std::ofstream(dir.file("lora_x.yaml")) << R"(
recipe: lora
model: {path: models/SmolLM2}
lora: {rank: 8, alpha: 16, dropout: 0.05, targets: [q_proj, v_proj], rslora: true}
data: {train: [{path: a.jsonl, weight: 2}, b.jsonl], eval_share: 0.05, seq_len: 512, packing: true,
       too_long: truncate, prompt_field: question, completion_field: answer}
parallel: {data: auto}
train: {micro_batch: 4, global_batch: 16, lr: 1e-3, schedule: cosine, warmup: 10, max_steps: 200,
        eval_every: 50}
checkpoint: {every_steps: 50, every_minutes: 30min, keep: 2, keep_best: true}
export: {formats: [hf, peft, gguf:q8_0]}
log: {level: info, every: 1}
)";
  const RunConfig config = read_run_config(dir.file("lora_x.yaml"), {"train.lr=5e-4"});
  EXPECT_EQ(config.output_dir, "runs/lora_x");
  EXPECT_EQ(config.train.lr, 5e-4);
  EXPECT_EQ(config.data.record.prompt_field, "question");
  EXPECT_EQ(config.checkpoint.every_minutes.seconds, 1800);
  EXPECT_EQ(config.train.warmup_steps(200), 10);
  EXPECT_EQ(config_json(config_from_json<RunConfig>(config_json(config), "m")),
            config_json(config));
}

TEST(RunConfig, MissingPartsAreNamed) {
  EXPECT_NE(error({"data.train=x"}).find("model.path is missing"), std::string::npos);
  EXPECT_NE(error({"model.path=x"}).find("data.train is missing"), std::string::npos);
}

TEST(RunConfig, ContradictionsAreRefused) {
  const std::pair<Overrides, const char*> cases[] = {
      {{"model.config=c"}, "keep one"},
      {{"recipe=sft", "model.adapter=a"}, "needs 'recipe: lora'"},
      {{"recipe=sft", "export.formats=peft"}, "only 'recipe: lora'"},
      {{"train.max_steps=3", "train.epochs=1"}, "both end the run"},
      {{"train.warmup=3", "train.warmup_ratio=0.1"}, "keep one"},
      {{"train.warmup=30", "train.max_steps=20"}, "longer than"},
      {{"train.micro_batch=9"}, "larger than train.global_batch"},
      {{"train.eval_every=5"}, "held-out records"},
      {{"checkpoint.keep_best=on", "data.eval=x"}, "need train.eval_every"},
      {{"data.eval=x", "data.eval_share=0.1"}, "keep one"},
      {{"lora.targets="}, "lora.targets is empty"},
      {{"export.formats=[gguf:q8]"}, "'gguf:q8_0'"},
      {{"data.train=[{weight: 2}]"}, "has no path"},
  };
  for (const auto& [overrides, message] : cases)
    EXPECT_NE(error(with(overrides)).find(message), std::string::npos)
        << overrides[0] << ": " << error(with(overrides));
}

TEST(RunConfig, AxesThatDoNotExistYetAreUnavailable) {
  for (const char* axis : {"tensor", "pipeline", "context"})
    EXPECT_NE(error(with({fmt::format("parallel.{}=2", axis)}), ErrorKind::unavailable)
                  .find("not implemented yet"),
              std::string::npos);
}

TEST(RunConfig, NoMoreBlocksAreOffloadedThanThereAre) {
  TrainConfig train;
  train.offload_layers = 8;
  EXPECT_EQ(train.recompute_plan(8).offloaded, 8u);
  try {
    train.recompute_plan(7);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_EQ(std::string(error.what()), "train.offload_layers is 8, but the model has 7 blocks");
  }
}

TEST(RunConfig, StepsLogAndLayoutMayChangeOnResumeAndNothingThatTrains) {
  const RunConfig before = read_config<RunConfig>("", with({}));
  const auto check = [&](const char* change) {
    check_resume(config_differences(before, read_config<RunConfig>("", with({change}))), "x");
  };
  for (const char* change :
       {"train.max_steps=50", "train.threads=2", "train.micro_batch=2", "log.level=debug",
        "checkpoint.keep=9", "parallel.data=4", "output_dir=y", "export.formats=hf",
        "train.recompute=full", "train.offload_layers=3"})
    EXPECT_NO_THROW(check(change)) << change;
  for (const char* change :
       {"train.lr=1", "recipe=sft", "lora.rank=4", "data.seed=3", "model.path=z", "data.train=z",
        "train.global_batch=4", "train.dtype=bf16"})
    EXPECT_THROW(check(change), Error) << change;
}

// To bring the document up to date: weft train --keys > docs/config.md
TEST(RunConfig, TheDocumentIsCurrent) {
  std::ifstream in(std::string(WEFT_SOURCE_DIR) + "/docs/config.md");
  std::stringstream text;
  text << in.rdbuf();
  EXPECT_TRUE(text.str() == config_document())
      << "docs/config.md differs from the structs: weft train --keys > docs/config.md";
}

}  // namespace
}  // namespace weft::recipes
