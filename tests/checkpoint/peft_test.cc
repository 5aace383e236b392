#include "checkpoint/peft.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "checkpoint/safetensors.h"
#include "core/base/error.h"
#include "tests/support/errors.h"
#include "tests/support/model_bytes.h"
#include "tests/support/test_data.h"

namespace weft::checkpoint {
namespace {

using test::error_of;
using test::TempDir;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string kModule = "model.layers.0.self_attn.q_proj";

Tensor counted(const Shape& shape) {
  Tensor out = Tensor::empty(shape, DType::f32);
  for (int64_t i = 0; i < out.numel(); ++i) out.data<float>()[i] = static_cast<float>(i) / 8;
  return out;
}

std::vector<std::pair<std::string, Tensor>> pair_of(int64_t rank, bool dora) {
  std::vector<std::pair<std::string, Tensor>> tensors = {
      {kModule + ".lora_A.weight", counted({rank, 6})},
      {kModule + ".lora_B.weight", counted({4, rank})}};
  if (dora) tensors.emplace_back(kModule + ".lora_magnitude_vector", counted({4}));
  return tensors;
}

PeftConfig config_of(int64_t rank) {
  PeftConfig config;
  config.base_model = "org/base";
  config.rank = rank;
  config.alpha = 32;
  config.targets = {"q_proj"};
  return config;
}

TEST(Peft, RoundTrips) {
  const TempDir dir;
  PeftConfig config = config_of(2);
  config.use_dora = true;
  config.dropout = 0.05;
  export_peft(dir.file("a"), config, MemoryWeights(pair_of(2, true)), DType::f32);
  const SafetensorsFile file(dir.file("a/adapter_model.safetensors"));
  std::vector<std::string> names;
  for (const auto& entry : file.entries()) names.push_back(entry.name);
  EXPECT_THAT(names, ElementsAre("base_model.model." + kModule + ".lora_A.weight",
                                 "base_model.model." + kModule + ".lora_B.weight",
                                 "base_model.model." + kModule + ".lora_magnitude_vector"));
  const PeftAdapter adapter = open_peft(dir.file("a"));
  EXPECT_THAT(adapter.modules, ElementsAre(kModule));
  EXPECT_EQ(adapter.config.base_model, "org/base");
  EXPECT_EQ(adapter.config.rank, 2);
  EXPECT_EQ(adapter.config.alpha, 32);
  EXPECT_EQ(adapter.config.dropout, 0.05);
  EXPECT_TRUE(adapter.config.use_dora);
  EXPECT_THAT(adapter.config.targets, ElementsAre("q_proj"));
  EXPECT_EQ(adapter.weights->read_all(kModule + ".lora_B.weight", DType::f32).data<float>()[7],
            7.0f / 8);
}

TEST(Peft, ScalesByRankAndPattern) {
  const PeftConfig config =
      peft_config_of(Json::parse(R"({"peft_type":"LORA","r":4,"lora_alpha":8,"use_rslora":true,
                      "rank_pattern":{"layers.1.mlp.up_proj":16},
                      "alpha_pattern":{"up_proj":3.5}})",
                                 "x"),
                     "x");
  EXPECT_EQ(config.rank_of("model.layers.1.mlp.up_proj"), 16);
  EXPECT_EQ(config.rank_of("model.layers.11.mlp.up_proj"), 4);
  EXPECT_EQ(config.alpha_of("model.layers.2.mlp.up_proj"), 3.5);
  EXPECT_EQ(config.alpha_of("model.layers.2.mlp.group_proj"), 8);
  EXPECT_EQ(config.scale_of("model.layers.2.mlp.down_proj"), 8 / std::sqrt(4.0));
  EXPECT_EQ(config_of(8).scale_of(kModule), 4);
}

TEST(Peft, RefusesWhatItWouldGetWrong) {
  const auto error = [](const std::string& members) {
    return error_of(ErrorKind::bad_data, [&] {
      peft_config_of(Json::parse(R"({"peft_type":"LORA",)" + members + "}", "a.json"), "a.json");
    });
  };
  EXPECT_THAT(error(R"("modules_to_save":["lm_head"])"), HasSubstr("modules_to_save"));
  EXPECT_THAT(error(R"("bias":"all")"), HasSubstr("bias"));
  EXPECT_THAT(error(R"("fan_in_fan_out":true)"), HasSubstr("fan_in_fan_out"));
  EXPECT_THAT(error(R"("init_lora_weights":"pissa_niter_4")"), HasSubstr("pissa"));
  EXPECT_THAT(error(R"("layer_replication":[[0,2]])"), HasSubstr("layer_replication"));
  EXPECT_THAT(error(R"("some_future_key":{"a":1})"), HasSubstr("some_future_key"));
  EXPECT_THAT(error(R"("rank_pattern":{".*q_proj":4})"), HasSubstr("pattern"));
  EXPECT_THAT(error(R"("r":0)"), HasSubstr("'r'"));
  EXPECT_THAT(error(R"("r":1e9)"), HasSubstr("'r'"));
  EXPECT_THAT(error(R"("lora_dropout":1.0)"), HasSubstr("lora_dropout"));
  EXPECT_THAT(error(R"("target_modules":[1])"), HasSubstr("target_modules"));
  EXPECT_THAT(error_of(ErrorKind::bad_data,
                       [] { peft_config_of(Json::parse(R"({"peft_type":"IA3"})", "x"), "x"); }),
              HasSubstr("IA3"));
}

TEST(Peft, AcceptsWhatPeftWritesByDefault) {
  const PeftConfig config = peft_config_of(
      Json::parse(R"({"alora_invocation_tokens":null,"alpha_pattern":{},"arrow_config":null,
        "auto_mapping":null,"base_model_name_or_path":"m","bias":"none","corda_config":null,
        "ensure_weight_tying":false,"eva_config":null,"exclude_modules":null,
        "fan_in_fan_out":false,"inference_mode":true,"init_lora_weights":true,
        "layer_replication":null,"layers_pattern":null,"layers_to_transform":null,
        "loftq_config":{},"lora_alpha":16,"lora_bias":false,"lora_dropout":0.0,
        "megatron_config":null,"megatron_core":"megatron.core","modules_to_save":null,
        "peft_type":"LORA","peft_version":"0.18.0","qalora_group_size":16,"r":8,
        "rank_pattern":{},"revision":null,"target_modules":"all-linear","target_parameters":null,
        "task_type":"CAUSAL_LM","trainable_token_indices":null,"use_dora":false,
        "use_qalora":false,"use_rslora":false})",
                  "x"),
      "x");
  EXPECT_EQ(config.rank, 8);
  EXPECT_EQ(config.alpha, 16);
}

TEST(Peft, TensorsMustFitTheConfig) {
  const TempDir dir;
  const auto error = [&](const PeftConfig& config,
                         std::vector<std::pair<std::string, Tensor>> tensors) {
    export_peft(dir.file("a"), config, MemoryWeights(std::move(tensors)), DType::f32);
    return error_of(ErrorKind::bad_data, [&] { open_peft(dir.file("a")); });
  };
  EXPECT_THAT(error(config_of(3), pair_of(2, false)), HasSubstr("rank 3"));
  EXPECT_THAT(error(config_of(2), pair_of(2, true)), HasSubstr("use_dora is false"));
  PeftConfig dora = config_of(2);
  dora.use_dora = true;
  EXPECT_THAT(error(dora, pair_of(2, false)), HasSubstr("magnitude"));
  auto half = pair_of(2, false);
  half.pop_back();
  EXPECT_THAT(error(config_of(2), half), HasSubstr("missing"));
  EXPECT_THAT(error(config_of(2), {}), HasSubstr("no adapter"));
  error_of(ErrorKind::bad_data, [&] {
    export_peft(dir.file("b"), config_of(2), MemoryWeights({{"model.norm.weight", counted({4})}}),
                DType::f32);
  });
  error_of(ErrorKind::no_input, [&] { open_peft(dir.file("absent")); });
}

}  // namespace
}  // namespace weft::checkpoint
