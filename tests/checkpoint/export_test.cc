#include "checkpoint/export_hf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "checkpoint/export_gguf.h"
#include "checkpoint/safetensors.h"
#include "core/base/error.h"
#include "tests/support/errors.h"
#include "tests/support/model_bytes.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace weft::checkpoint {
namespace {

using test::error_of;
using test::TempDir;
using test::tiny_files;
using test::TinyFiles;
using testing::HasSubstr;

// The largest distance between two sources' values, over all weights of `a`.
float distance(const WeightSource& a, const WeightSource& b) {
  float most = 0;
  for (const WeightInfo& info : a.weights()) {
    const Tensor x = a.read_all(info.name, DType::f32), y = b.read_all(info.name, DType::f32);
    EXPECT_EQ(x.shape(), y.shape()) << info.name;
    for (int64_t i = 0; i < x.numel(); ++i)
      most = std::max(most, std::abs(x.data<float>()[i] - y.data<float>()[i]));
  }
  return most;
}

class Export : public testing::TestWithParam<const char*> {
 protected:
  TempDir dir_;
  const TinyFiles model_ = tiny_files(GetParam());
};

TEST_P(Export, FolderGivesBackTheSameWeightsAndConfig) {
  export_hf(dir_.file("hf"), model_.description, model_.weights(), {DType::f32});
  const ModelFiles files = open_model(dir_.file("hf"));
  check_shapes(*files.weights, model_.expected());
  EXPECT_EQ(distance(model_.weights(), *files.weights), 0);
  for (const auto& [key, value] : model_.description.config.as_object())
    EXPECT_EQ(files.description.config.at(key).dump(), value.dump()) << key;
  EXPECT_EQ(files.description.config.at("torch_dtype"), Json("float32"));
}

TEST_P(Export, F32GgufGivesBackTheSameWeightsAndConfig) {
  export_gguf(dir_.file("m.gguf"), model_.description, model_.weights(), {GgmlType::f32, "tiny"});
  const ModelFiles files = open_model(dir_.file("m.gguf"));
  check_shapes(*files.weights, model_.expected());
  EXPECT_EQ(distance(model_.weights(), *files.weights), 0);
  const Json& config = files.description.config;
  for (const char* key :
       {"hidden_size", "intermediate_size", "num_hidden_layers", "head_dim", "num_attention_heads",
        "num_key_value_heads", "vocab_size", "rope_theta", "rms_norm_eps", "tie_word_embeddings"})
    EXPECT_EQ(config.at(key).dump(), model_.description.config.at(key).dump()) << key;
  if (const Json* scaling = model_.description.config.find("rope_scaling"))
    for (const auto& [key, value] : scaling->as_object()) {
      const Json& found = config.at("rope_scaling").at(key);
      if (value.is_number())
        EXPECT_EQ(found.as_double(), value.as_double()) << key;
      else
        EXPECT_EQ(found, value) << key;
    }
}

TEST_P(Export, SmallerGgufTypesStayWithinTheirRounding) {
  for (const auto& [type, bound] :
       {std::pair{"f16", 2e-4f}, std::pair{"bf16", 1.1e-3f}, std::pair{"q8_0", 1.2e-3f}}) {
    export_gguf(dir_.file("m.gguf"), model_.description, model_.weights(),
                {gguf_export_type(type), ""});
    const ModelFiles files = open_model(dir_.file("m.gguf"));
    const float found = distance(model_.weights(), *files.weights);
    EXPECT_GT(found, 0) << type;
    EXPECT_LT(found, bound) << type;
    EXPECT_EQ(files.weights->info("model.norm.weight").stored_as, "F32");
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Export,
                         testing::Values("llama", "llama3", "mistral", "qwen2", "qwen3"),
                         [](const auto& info) { return std::string(info.param); });

TEST(ExportHf, ShardsAboveTheLimit) {
  const TempDir dir;
  const TinyFiles model = tiny_files("llama");
  export_hf(dir.file("hf"), model.description, model.weights(), {DType::bf16, 60'000});
  EXPECT_FALSE(std::filesystem::exists(dir.file("hf/model.safetensors")));
  const Json index = Json::parse_file(dir.file("hf/model.safetensors.index.json"));
  int64_t total = 0;
  for (const auto& [name, tensor] : model.tensors) total += tensor.numel() * 2;
  EXPECT_EQ(index.at("metadata").at("total_size").as_int(), total);
  int shards = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir.file("hf"))) {
    if (entry.path().extension() != ".safetensors") continue;
    ++shards;
    const SafetensorsFile file(entry.path().string());
    EXPECT_LE(entry.file_size(), 70'000u) << entry.path();
    EXPECT_THAT(file.metadata(), testing::ElementsAre(testing::Pair("format", "pt")));
    for (const auto& tensor : file.entries()) EXPECT_EQ(tensor.begin % 8 % 2, 0u);
  }
  EXPECT_GT(shards, 2);
  const ModelFiles files = open_model(dir.file("hf"));
  check_shapes(*files.weights, model.expected());
  EXPECT_LT(distance(model.weights(), *files.weights), 1.1e-3f);
}

TEST(ExportHf, DataStartsAlignedAndIsWhatTheFormatAsks) {
  const TempDir dir;
  const TinyFiles model = tiny_files("qwen2");
  export_hf(dir.file("hf"), model.description, model.weights());
  const SafetensorsFile file(dir.file("hf/model.safetensors"));
  EXPECT_EQ(file.entries().front().begin % 8, 0u);
  for (const auto& entry : file.entries()) EXPECT_NE(entry.name, "lm_head.weight");
}

TEST(ExportHf, ATiedHeadIsLeftOut) {
  const TempDir dir;
  TinyFiles tied = tiny_files("qwen2");
  tied.tensors.emplace_back("lm_head.weight", tied.tensors[0].second);
  export_hf(dir.file("hf"), tied.description, tied.weights());
  EXPECT_FALSE(open_model(dir.file("hf")).weights->contains("lm_head.weight"));
  export_gguf(dir.file("m.gguf"), tied.description, tied.weights());
  EXPECT_FALSE(open_model(dir.file("m.gguf")).weights->contains("lm_head.weight"));
}

TEST(ExportHf, ConfigSaysRotaryScalingInBothForms) {
  const Json old_form = hf_export_config(
      Json::parse(R"({"rope_theta":5e5,"rope_scaling":{"type":"linear","factor":2.0}})", "old"),
      DType::bf16);
  EXPECT_EQ(old_form.at("rope_parameters"),
            Json::parse(R"({"rope_type":"linear","factor":2.0,"rope_theta":5e5})", "expected"));
  const Json new_form = hf_export_config(
      Json::parse(R"({"rope_parameters":{"rope_type":"default","rope_theta":5e5}})", "new"),
      DType::bf16);
  EXPECT_EQ(new_form.at("rope_theta").as_double(), 5e5);
  EXPECT_EQ(new_form.find("rope_scaling")->is_null(), true);
  EXPECT_EQ(new_form.at("dtype"), new_form.at("torch_dtype"));
  const Json neither = hf_export_config(Json::parse("{}", "none"), DType::f32);
  EXPECT_EQ(neither.at("rope_parameters").at("rope_theta").as_double(), 10000);
}

TEST(ExportGguf, RefusesWhatTheFormatCannotSay) {
  const TempDir dir;
  const auto refuses = [&](const char* key, Json value) {
    TinyFiles model = tiny_files("llama");
    model.description.config.set(key, std::move(value));
    return error_of(ErrorKind::bad_data,
                    [&] { export_gguf(dir.file("m.gguf"), model.description, model.weights()); });
  };
  EXPECT_THAT(refuses("model_type", "gemma2"), HasSubstr("gemma2"));
  EXPECT_THAT(refuses("rope_scaling", Json::parse(R"({"rope_type":"yarn","factor":2})", "x")),
              HasSubstr("yarn"));
  EXPECT_THAT(refuses("num_attention_heads", 0), HasSubstr("num_attention_heads"));
  EXPECT_THAT(refuses("rms_norm_eps", "small"), HasSubstr("rms_norm_eps"));
  EXPECT_THAT(refuses("head_dim", 15), HasSubstr("odd"));
  EXPECT_THAT(refuses("head_dim", 14), HasSubstr("heads"));
  EXPECT_FALSE(std::filesystem::exists(dir.file("m.gguf")));
  EXPECT_THAT(error_of(ErrorKind::usage, [] { gguf_export_type("q4_k_m"); }), HasSubstr("q4_k_m"));
}

TEST(ExportF16, NamesTheWeightThatDoesNotFit) {
  const TempDir dir;
  const TinyFiles model = tiny_files("llama");
  const std::string name = "model.layers.0.self_attn.q_proj.weight";
  for (const auto& [key, tensor] : model.tensors)
    if (key == name) tensor.data<float>()[5] = 70000;
  const MemoryWeights weights = model.weights();
  EXPECT_THAT(
      error_of(ErrorKind::bad_data,
               [&] { export_hf(dir.file("hf"), model.description, weights, {DType::f16}); }),
      HasSubstr(name));
  for (GgmlType type : {GgmlType::f16, GgmlType::bf16, GgmlType::f32, GgmlType::q8_0}) {
    const auto run = [&] {
      export_gguf(dir.file("m.gguf"), model.description, weights, {type, ""});
    };
    if (type != GgmlType::f16)
      EXPECT_NO_THROW(run());
    else
      EXPECT_THAT(error_of(ErrorKind::bad_data, run), HasSubstr(name));
  }
}

TEST(ExportGguf, RowsThatAreNotWholeBlocksFallBackToF16) {
  const TempDir dir;
  TinyFiles model = tiny_files("llama");
  for (auto& [name, tensor] : model.tensors)
    if (name.ends_with("down_proj.weight")) tensor = Tensor::zeros({64, 90}, DType::f32);
  export_gguf(dir.file("m.gguf"), model.description, model.weights());
  const GgufFile file(dir.file("m.gguf"));
  EXPECT_EQ(file.find("blk.0.ffn_down.weight")->ggml_type, 1u);
  EXPECT_EQ(file.find("blk.0.ffn_up.weight")->ggml_type, 8u);
  EXPECT_EQ(file.metadata().integer("general.quantization_version"), 2);
  EXPECT_EQ(file.metadata().integer("general.file_type"), 7);
}

}  // namespace
}  // namespace weft::checkpoint
