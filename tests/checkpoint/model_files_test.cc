#include "checkpoint/model_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "checkpoint/export_gguf.h"
#include "checkpoint/export_hf.h"
#include "checkpoint/rope_scaling.h"
#include "core/base/error.h"
#include "tests/support/errors.h"
#include "tests/support/model_bytes.h"
#include "tests/support/test_data.h"

namespace weft::checkpoint {
namespace {

using test::error_of;
using test::GgufBytes;
using test::TempDir;
using testing::HasSubstr;

std::string open_error(const std::string& path) {
  return error_of(ErrorKind::no_input, [&] { open_model(path); });
}

TEST(OpenModel, SaysWhatAWrongPathIs) {
  const TempDir dir;
  EXPECT_THAT(open_error(dir.file("absent")), HasSubstr("is not there"));
  test::write_file(dir.file("model.safetensors"), "x");
  EXPECT_THAT(open_error(dir.file("model.safetensors")), HasSubstr("name the folder"));
  EXPECT_THAT(open_error(dir.path().string()), HasSubstr("no config.json"));
  test::write_file(dir.file("m.gguf"), "x");
  EXPECT_THAT(open_error(dir.path().string()), HasSubstr("did you mean"));
  test::write_file(dir.file("adapter_config.json"), "{}");
  EXPECT_THAT(open_error(dir.path().string()), HasSubstr("PEFT adapter"));
  test::write_file(dir.file("config.json"), "{}");
  std::filesystem::remove(dir.file("model.safetensors"));
  EXPECT_THAT(open_error(dir.path().string()), HasSubstr("neither model.safetensors"));
  test::write_file(dir.file("pytorch_model.bin"), "x");
  EXPECT_THAT(open_error(dir.path().string()), HasSubstr("convert it"));
  test::write_file(dir.file("config.json"), "[]");
  error_of(ErrorKind::bad_data, [&] { open_model(dir.path().string()); });
  test::write_file(dir.file("not.gguf"), "hello, this is not a model at all");
  EXPECT_THAT(error_of(ErrorKind::bad_data, [&] { open_model(dir.file("not.gguf")); }),
              HasSubstr("'GGUF'"));
}

// A GGUF of an architecture's keys and an embedding, to which a test adds or from which it takes.
class GgufConfig : public testing::Test {
 protected:
  static GgufBytes bytes(const std::string& arch, const std::vector<std::string>& without = {}) {
    GgufBytes gguf;
    gguf.keys.push_back(GgufBytes::string("general.architecture", arch));
    const auto add = [&](const std::string& name, uint32_t value) {
      if (std::find(without.begin(), without.end(), name) == without.end())
        gguf.keys.push_back(GgufBytes::u32(arch + "." + name, value));
    };
    add("context_length", 2048);
    add("embedding_length", 64);
    add("block_count", 2);
    add("feed_forward_length", 128);
    add("attention.head_count", 4);
    add("attention.head_count_kv", 2);
    add("rope.dimension_count", 16);
    if (without.empty() || without[0] != "eps")
      gguf.keys.push_back(GgufBytes::f32(arch + ".attention.layer_norm_rms_epsilon", 1e-6f));
    gguf.tensors = {GgufBytes::tensor("token_embd.weight", {64, 3}, 0, 0)};
    gguf.data = std::string(64 * 3 * 4, '\0');
    return gguf;
  }
  Json config(const GgufBytes& gguf) {
    test::write_file(path_, gguf.bytes());
    return open_description(path_).config;
  }
  std::string error(const GgufBytes& gguf) {
    test::write_file(path_, gguf.bytes());
    return error_of(ErrorKind::bad_data, [&] { open_description(path_); });
  }

  TempDir dir_;
  const std::string path_ = dir_.file("m.gguf");
};

TEST_F(GgufConfig, IsThatOfHuggingFace) {
  GgufBytes gguf = bytes("qwen3");
  gguf.keys.push_back(GgufBytes::u32("qwen3.attention.key_length", 16));
  gguf.keys.push_back(GgufBytes::f32("qwen3.rope.freq_base", 1e6f));
  gguf.keys.push_back(GgufBytes::u32("tokenizer.ggml.eos_token_id", 2));
  gguf.keys.push_back(GgufBytes::u32("tokenizer.ggml.eot_token_id", 1));
  const Json json = config(gguf);
  EXPECT_EQ(json.at("model_type"), Json("qwen3"));
  EXPECT_EQ(json.at("architectures"), Json(Json::Array{"Qwen3ForCausalLM"}));
  EXPECT_EQ(json.at("hidden_size"), Json(64));
  EXPECT_EQ(json.at("vocab_size"), Json(3));
  EXPECT_EQ(json.at("head_dim"), Json(16));
  EXPECT_EQ(json.at("rms_norm_eps").as_double(), 1e-6);
  EXPECT_EQ(json.at("rope_theta").as_double(), 1e6);
  EXPECT_EQ(json.at("tie_word_embeddings"), Json(true));
  EXPECT_EQ(json.at("eos_token_id"), Json(2));
  EXPECT_EQ(open_description(path_).generation_config.at("eos_token_id"), Json(Json::Array{2, 1}));
}

TEST_F(GgufConfig, NamesWhatIsMissingOrUnsupported) {
  EXPECT_THAT(error(bytes("mamba")), HasSubstr("'mamba' is not supported"));
  for (const char* key : {"context_length", "embedding_length", "block_count",
                          "feed_forward_length", "attention.head_count"})
    EXPECT_THAT(error(bytes("llama", {key})), HasSubstr(std::string("llama.") + key));
  EXPECT_THAT(error(bytes("llama", {"eps"})), HasSubstr("layer_norm_rms_epsilon"));
  const auto with = [&](const char* without, const std::string& key) {
    GgufBytes gguf = bytes("llama", {without});
    gguf.keys.push_back(key);
    return error(gguf);
  };
  EXPECT_THAT(with("attention.head_count", GgufBytes::u32("llama.attention.head_count", 0)),
              HasSubstr("head_count' is 0"));
  EXPECT_THAT(with("attention.head_count", GgufBytes::u32("llama.attention.head_count", 5)),
              HasSubstr("not a multiple"));
  EXPECT_THAT(with("attention.head_count", GgufBytes::f32("llama.attention.head_count", 4)),
              HasSubstr("not an integer"));
  EXPECT_THAT(with("block_count", GgufBytes::u32("llama.block_count", UINT32_MAX)),
              HasSubstr("block_count"));
  EXPECT_THAT(with("rope.dimension_count", GgufBytes::u32("llama.rope.dimension_count", 8)),
              HasSubstr("partial rotation"));
  EXPECT_THAT(with("-", GgufBytes::u32("llama.expert_count", 8)), HasSubstr("experts"));
  EXPECT_THAT(with("-", GgufBytes::f32("llama.rope.freq_base", -1)), HasSubstr("freq_base"));
  GgufBytes no_embedding = bytes("llama");
  no_embedding.tensors.clear();
  EXPECT_THAT(error(no_embedding), HasSubstr("token_embd.weight"));
}

TEST_F(GgufConfig, OfUnknownRotaryFactorsIsRefused) {
  GgufBytes gguf = bytes("llama");
  gguf.tensors.push_back(GgufBytes::tensor("rope_freqs.weight", {8}, 0, 768));
  gguf.data += test::bytes_of(std::vector<float>{1, 1, 3, 5, 7, 7.5, 8, 8});
  EXPECT_THAT(error(gguf), HasSubstr("rope_freqs.weight"));
}

TEST(RopeScaling, FactorsOfLlama31AreRecovered) {
  // Llama 3.1 8B and Llama 3.2 1B.
  for (const auto& [head_dim, factor] : {std::pair<int64_t, double>{128, 8}, {64, 32}}) {
    const Llama3Scaling scaling{factor, 1, 4, 8192};
    const auto factors = llama3_rope_factors(head_dim, 500000, scaling);
    EXPECT_EQ(factors.front(), 1);
    EXPECT_EQ(factors.back(), factor);
    const auto found = llama3_scaling_of(factors, 500000);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->factor, factor);
    EXPECT_EQ(found->original_context, 8192);
  }
  EXPECT_FALSE(llama3_scaling_of({}, 10000));
  EXPECT_FALSE(llama3_scaling_of({1, 2, 3, 4}, 10000));
}

// Top-level keys whose meaning must survive a way through GGUF.
void expect_same_tokens(const ModelDescription& a, const ModelDescription& b) {
  ASSERT_TRUE(a.tokenizer && b.tokenizer);
  for (const char* text :
       {"Once upon a time, there was a little girl.", "1234 + x\n\n  y", "žluť 你好"})
    EXPECT_EQ(a.tokenizer->encode(text), b.tokenizer->encode(text)) << text;
  EXPECT_EQ(a.tokenizer_config.bos_token, b.tokenizer_config.bos_token);
  EXPECT_EQ(a.tokenizer_config.eos_token, b.tokenizer_config.eos_token);
  EXPECT_EQ(a.tokenizer_config.chat_template, b.tokenizer_config.chat_template);
}

TEST(OpenModelShared, ARealModelGoesThroughBothFormats) {
  SKIP_WITHOUT_SHARED_DATA();
  const TempDir dir;
  const ModelFiles base = open_model(test::shared_data() + "/models/stories260K-hf");
  export_gguf(dir.file("m.gguf"), base.description, *base.weights, {GgmlType::f32, ""});
  const ModelFiles gguf = open_model(dir.file("m.gguf"));
  export_hf(dir.file("hf"), gguf.description, *gguf.weights, {DType::f32});
  const ModelFiles folder = open_model(dir.file("hf"));
  for (const WeightInfo& info : base.weights->weights()) {
    const Tensor before = base.weights->read_all(info.name, DType::f32);
    const Tensor after = folder.weights->read_all(info.name, DType::f32);
    EXPECT_EQ(std::memcmp(before.raw(), after.raw(), before.bytes()), 0) << info.name;
  }
  expect_same_tokens(base.description, gguf.description);
  expect_same_tokens(base.description, folder.description);
}

TEST(OpenModelSmolLm2, IsReadFromItsGguf) {
  const char* path = std::getenv("WEFT_SMOLLM2");
  if (!path) GTEST_SKIP() << "set WEFT_SMOLLM2 to SmolLM2-135M-Instruct.Q4_1.gguf";
  const ModelFiles files = open_model(path);
  const Json& config = files.description.config;
  EXPECT_EQ(config.at("num_hidden_layers"), Json(30));
  EXPECT_EQ(config.at("hidden_size"), Json(576));
  EXPECT_EQ(config.at("vocab_size"), Json(49152));
  EXPECT_EQ(config.at("rope_theta").as_double(), 100000);
  EXPECT_EQ(config.at("rms_norm_eps").as_double(), 1e-5);
  EXPECT_EQ(config.at("tie_word_embeddings"), Json(true));
  EXPECT_EQ(files.weights->weights().size(), 272u);
  EXPECT_EQ(files.description.tokenizer_config.eos_token, "<|im_end|>");
  EXPECT_THAT(files.description.tokenizer_config.chat_template, HasSubstr("im_start"));
}

}  // namespace
}  // namespace weft::checkpoint
