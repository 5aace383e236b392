#include "core/text/tokenizer_config.h"

#include <gtest/gtest.h>

#include <fstream>

#include "core/base/error.h"
#include "tests/support/test_data.h"

namespace weft::text {
namespace {

void write(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
}

Tokenizer llama() {
  return Tokenizer::from_json(
      Json::parse_file(test::fixture("tokenizer/llama2.json")).at("tokenizer"), "llama2");
}

TEST(TokenizerConfig, ReadsTokensAsStringsAndAsObjects) {
  const auto config = TokenizerConfig::from_json(
      Json::parse(
          R"({"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "pad_token": null,
                      "add_bos_token": true, "model_max_length": 1e30, "tokenizer_class": "X", "auto_map": {}})",
          "c"),
      "c");
  EXPECT_EQ(config.bos_token, "<s>");
  EXPECT_EQ(config.eos_token, "</s>");
  EXPECT_EQ(config.pad_token, "");
  EXPECT_EQ(config.add_bos_token, true);
  EXPECT_EQ(config.add_eos_token, std::nullopt);
}

TEST(TokenizerConfig, TakesTheDefaultOfSeveralTemplates) {
  const auto config = TokenizerConfig::from_json(
      Json::parse(
          R"({"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]})",
          "c"),
      "c");
  EXPECT_EQ(config.chat_template, "D");
  EXPECT_THROW(TokenizerConfig::from_json(Json::parse(R"({"chat_template": 3})", "c"), "c"), Error);
  EXPECT_THROW(TokenizerConfig::from_json(Json::parse(R"({"bos_token": 3})", "c"), "c"), Error);
  EXPECT_THROW(TokenizerConfig::from_json(Json::parse(R"({"add_bos_token": "yes"})", "c"), "c"),
               Error);
}

TEST(TokenizerConfig, AFolderMayHaveItsTemplateAndTokensInFilesOfTheirOwn) {
  test::TempDir dir;
  EXPECT_EQ(TokenizerConfig::from_folder(dir.path().string()).chat_template, "");
  write(dir.file("tokenizer_config.json"), R"({"bos_token": "<s>", "chat_template": "inside"})");
  write(dir.file("special_tokens_map.json"), R"({"bos_token": "<other>", "eos_token": "</s>"})");
  auto config = TokenizerConfig::from_folder(dir.path().string());
  EXPECT_EQ(config.bos_token, "<s>");
  EXPECT_EQ(config.eos_token, "</s>");
  EXPECT_EQ(config.chat_template, "inside");
  write(dir.file("chat_template.jinja"), "{{ beside }}\n");
  config = TokenizerConfig::from_folder(dir.path().string());
  EXPECT_EQ(config.chat_template, "{{ beside }}\n");
}

TEST(TokenizerConfig, SurvivesWritingAndReading) {
  TokenizerConfig config;
  config.bos_token = "<s>";
  config.add_bos_token = true;
  config.chat_template = "{{ messages }}";
  const auto again = TokenizerConfig::from_json(config.to_json(), "again");
  EXPECT_EQ(again.bos_token, "<s>");
  EXPECT_EQ(again.eos_token, "");
  EXPECT_EQ(again.add_bos_token, true);
  EXPECT_EQ(again.chat_template, "{{ messages }}");
}

TEST(SpecialIds, ComeFromTheConfigAndElseFromThePostProcessor) {
  TokenizerConfig config;
  config.bos_token = "<s>";
  config.unk_token = "<unk>";
  auto ids = special_ids(llama(), config);
  EXPECT_EQ(ids.bos, *llama().id_of("<s>"));
  EXPECT_EQ(ids.eos, -1);
  EXPECT_TRUE(ids.add_bos);  // its template adds <s>
  EXPECT_FALSE(ids.add_eos);
  config.add_bos_token = false;
  EXPECT_FALSE(special_ids(llama(), config).add_bos);
  config.eos_token = "<nowhere>";
  EXPECT_THROW(special_ids(llama(), config), Error);
}

}  // namespace
}  // namespace weft::text
