#include "core/models/decoder_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/support/errors.h"

namespace weft::models {
namespace {

using ::testing::HasSubstr;

const char* kLlama =
    R"({"model_type": "llama", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 172,
  "num_hidden_layers": 5, "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 512)";

DecoderConfig parse(const std::string& more) {
  return parse_decoder_config(Json::parse(std::string(kLlama) + more + "}", "config.json"),
                              "config.json");
}

void expect_refused(const std::string& more, const std::string& words) {
  EXPECT_THAT(test::error_of(ErrorKind::bad_data, [&] { parse(more); }), HasSubstr(words)) << more;
}

TEST(DecoderConfig, ReadsBothFormsOfRopeParameters) {
  const std::string llama3 =
      R"("rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 8192)";
  const DecoderConfig old_form = parse(R"(, "rope_theta": 5e5, "rope_scaling": {)" + llama3 + "}");
  const DecoderConfig new_form =
      parse(R"(, "rope_parameters": {"rope_theta": 5e5, )" + llama3 + "}");
  for (const DecoderConfig& c : {old_form, new_form}) {
    EXPECT_EQ(c.rope_theta, 5e5);
    ASSERT_TRUE(c.rope_scaling);
    EXPECT_EQ(c.rope_scaling->factor, 32);
    EXPECT_EQ(c.rope_scaling->original_max_position_embeddings, 8192);
  }
}

TEST(DecoderConfig, RefusesWhatItDoesNotCompute) {
  expect_refused(R"(, "attention_dropout": 0.1)", "attention_dropout");
  expect_refused(R"(, "hidden_act": "gelu")", "hidden_act");
  expect_refused(R"(, "rope_scaling": {"rope_type": "yarn", "factor": 4})", "yarn");
  expect_refused(R"(, "logit_scale": 0.5)", "logit_scale");
  expect_refused(R"(, "quantization_config": {"bits": 4})", "quantised");
  expect_refused(R"(, "auto_map": {"AutoModel": "x.py"})", "auto_map");
}

TEST(DecoderConfig, ChecksSizesBeforeArithmetic) {
  expect_refused(R"(, "head_dim": 0)", "head_dim");
  expect_refused(R"(, "head_dim": 7)", "odd");
  expect_refused(R"(, "rms_norm_eps": -1)", "rms_norm_eps");
  EXPECT_THROW(parse_decoder_config(Json::parse(R"({"model_type": "llama"})", "x"), "x"), Error);
  EXPECT_THROW(parse_decoder_config(Json::parse(R"({"model_type": "gpt2"})", "x"), "x"), Error);
}

// Published figures that the FLOP convention reproduces (docs/performance.md).
TEST(DecoderConfig, CountsFlopsAsPublished) {
  DecoderConfig c;  // Llama-3-8B
  c.hidden_size = 4096;
  c.intermediate_size = 14336;
  c.num_hidden_layers = 32;
  c.num_attention_heads = 32;
  c.num_key_value_heads = 8;
  c.head_dim = 128;
  c.vocab_size = 128256;
  EXPECT_NEAR(static_cast<double>(c.block_parameters()), 6.9796e9, 1e5);
  EXPECT_NEAR(c.flops_per_token(8192, false) * 14451, 744e12, 1e12);
  EXPECT_NEAR(c.flops_per_token(4096, true) * 12473, 402e12, 1e12);
}

TEST(DecoderConfig, AMistralWindowLimitsTheSequence) {
  const DecoderConfig c = parse_decoder_config(
      Json::parse(
          R"({"model_type": "mistral", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 172,
        "num_hidden_layers": 5, "num_attention_heads": 8, "sliding_window": 128,
        "max_position_embeddings": 512})",
          "x"),
      "x");
  EXPECT_EQ(c.max_sequence(), 128);
}

}  // namespace
}  // namespace weft::models
