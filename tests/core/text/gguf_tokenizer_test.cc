#include "core/text/gguf_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "core/base/error.h"
#include "core/text/spm_merges.h"
#include "tests/support/errors.h"
#include "tests/support/test_data.h"

namespace weft::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Json fixture_tokenizer(const std::string& name) {
  return Json::parse_file(test::fixture("tokenizer/" + name + ".json")).at("tokenizer");
}

Tokenizer load(const std::string& name) {
  return Tokenizer::from_json(fixture_tokenizer(name), name);
}

std::vector<std::string> texts_of(const std::string& name) {
  std::vector<std::string> texts;
  const Json file = Json::parse_file(test::fixture("tokenizer/" + name + ".json"));
  for (const Json& record : file.at("encode").as_array())
    texts.push_back(record.at("text").as_string());
  return texts;
}

TokenizerConfig with_bos() {
  TokenizerConfig config;
  config.bos_token = "<s>";
  config.chat_template = "{{ messages }}";
  return config;
}

GgufTokenizer small_gpt2() {
  GgufTokenizer gguf;
  gguf.model = "gpt2";
  gguf.pre = "smollm";
  gguf.tokens = {"<|im_end|>", "a", "b", "ab", "[PAD4]"};
  gguf.types = {3, 1, 1, 1, 5};
  gguf.merges = {"a b"};
  gguf.eos = 0;
  return gguf;
}

struct RoundTrip {
  const char* fixture;
  const char* model;
  const char* pre;
};

class GgufRoundTrip : public ::testing::TestWithParam<RoundTrip> {};

TEST_P(GgufRoundTrip, TheTokenizerOfAnExportedGgufGivesTheSameIds) {
  const auto& [name, model, pre] = GetParam();
  const Tokenizer original = load(name);
  const int64_t rows = original.vocab_size() + 5;
  const GgufTokenizer gguf = to_gguf(original, with_bos(), rows);
  EXPECT_EQ(gguf.model, model);
  EXPECT_EQ(gguf.pre, pre);
  EXPECT_EQ(static_cast<int64_t>(gguf.tokens.size()), rows);
  EXPECT_EQ(gguf.types.size(), gguf.tokens.size());
  EXPECT_EQ(gguf.types.back(), 5);
  EXPECT_EQ(gguf.types[*original.id_of("<s>")], 3);
  EXPECT_EQ(gguf.types[*original.id_of("<tok>")], 4);
  EXPECT_EQ(gguf.bos, *original.id_of("<s>"));
  EXPECT_EQ(gguf.chat_template, "{{ messages }}");

  const ImportedTokenizer imported = from_gguf(gguf, "again.gguf");
  EXPECT_EQ(imported.config.bos_token, "<s>");
  EXPECT_EQ(imported.config.add_bos_token, gguf.add_bos);
  for (const std::string& text : texts_of(name)) {
    if (text.find("<|x|>") != text.npos && name == std::string("llama2"))
      continue;  // normalized there
    const auto ids = original.encode(text);
    EXPECT_EQ(imported.tokenizer.encode(text), ids) << text;
    EXPECT_EQ(imported.tokenizer.decode(ids), original.decode(ids));
  }
  EXPECT_EQ(imported.tokenizer.prefix_ids(), original.prefix_ids());
}

INSTANTIATE_TEST_SUITE_P(
    Fixture, GgufRoundTrip,
    ::testing::Values(RoundTrip{"byte_level", "gpt2", "gpt-2"},
                      RoundTrip{"byte_level_merges_as_strings", "gpt2", "gpt-2"},
                      RoundTrip{"smollm", "gpt2", "smollm"}, RoundTrip{"qwen", "gpt2", "qwen2"},
                      RoundTrip{"llama3", "gpt2", "llama-bpe"},
                      RoundTrip{"deepseek", "gpt2", "deepseek-v3"}),
    [](const auto& info) { return info.param.fixture; });

TEST(GgufTokenizer, RealModelsSurviveTheWayThroughAGguf) {
  SKIP_WITHOUT_SHARED_DATA();
  for (const char* folder : {"models/stories260K-hf", "tokenizers/minimind"}) {
    const std::string path = test::shared_data() + "/" + folder;
    const Tokenizer original = Tokenizer::from_file(path + "/tokenizer.json");
    const auto config = TokenizerConfig::from_folder(path);
    const auto imported = from_gguf(to_gguf(original, config, original.vocab_size()), "x");
    for (const char* text : {"Once upon a time, there was a little girl.", "  Ünïcödé 你好 \n\n x",
                             "<s>hello</s> 123"}) {
      EXPECT_EQ(imported.tokenizer.encode(text), original.encode(text)) << text;
      EXPECT_EQ(imported.tokenizer.encode(text, {.add_special = true}),
                original.encode(text, {.add_special = true}));
      EXPECT_EQ(imported.tokenizer.decode(original.encode(text)),
                original.decode(original.encode(text)));
    }
  }
}

TEST(GgufTokenizer, PaddingIsNotPartOfTheTokenizer) {
  const auto imported = from_gguf(small_gpt2(), "x.gguf");
  EXPECT_EQ(imported.tokenizer.vocab_size(), 4);
  EXPECT_EQ(imported.config.eos_token, "<|im_end|>");
  EXPECT_EQ(imported.config.bos_token, "");
  EXPECT_THAT(imported.tokenizer.encode("ab<|im_end|>a"), ElementsAre(3, 0, 1));
  const GgufTokenizer again = to_gguf(imported.tokenizer, imported.config, 6);
  EXPECT_THAT(again.tokens, ElementsAre("<|im_end|>", "a", "b", "ab", "[PAD4]", "[PAD5]"));
  EXPECT_THAT(again.types, ElementsAre(3, 1, 1, 1, 5, 5));
  EXPECT_THAT(again.merges, ElementsAre("a b"));
}

TEST(GgufTokenizer, ATokenizerJsonIsMade) {
  const Json json = from_gguf(small_gpt2(), "x.gguf").tokenizer.to_json();
  EXPECT_EQ(json.at("pre_tokenizer").at("type").as_string(), "Sequence");
  EXPECT_EQ(json.at("model").at("merges").as_array().size(), 1u);
  EXPECT_EQ(json.at("added_tokens").as_array().size(), 1u);
  EXPECT_EQ(json.at("version").as_string(), "1.0");
}

TEST(GgufTokenizer, SentencePieceScoresDecideTheMerges) {
  GgufTokenizer gguf;
  gguf.model = "llama";
  gguf.tokens = {"<unk>", "<s>", "</s>", "<0x0A>", "\u2581", "a",
                 "b",     "c",   "ab",   "bc",     "abc",    "\u2581a"};
  gguf.types = {2, 3, 3, 6, 1, 1, 1, 1, 1, 1, 1, 1};
  gguf.scores = {0, 0, 0, 0, -9, -9, -9, -9, -2, -1, -3, -4};
  const auto imported = from_gguf(gguf, "x.gguf");
  // " abc": b+c first, then a+bc; the space stays alone.
  EXPECT_THAT(imported.tokenizer.encode("abc"), ElementsAre(4, 10));
  EXPECT_THAT(imported.tokenizer.encode("abc\n", {.add_special = true}), ElementsAre(1, 4, 10, 3));
  EXPECT_EQ(imported.tokenizer.decode(std::vector<int32_t>{1, 4, 10}, /*skip_special=*/true),
            "abc");
  EXPECT_THAT(merges_from_scores(gguf.tokens, gguf.scores, gguf.types),
              ElementsAre(std::pair(6, 7), std::pair(5, 6), std::pair(8, 7), std::pair(5, 9),
                          std::pair(4, 5)));
  gguf.add_space_prefix = false;
  gguf.add_bos = false;
  EXPECT_THAT(from_gguf(gguf, "x").tokenizer.encode("abc", {.add_special = true}), ElementsAre(10));
}

TEST(GgufTokenizer, WhatIsWrongInTheFileIsAnError) {
  const auto expect_error = [](const std::function<void(GgufTokenizer&)>& breaks,
                               const std::string& says) {
    GgufTokenizer gguf = small_gpt2();
    breaks(gguf);
    EXPECT_THAT(test::error_of(ErrorKind::bad_data, [&] { from_gguf(gguf, "x.gguf"); }),
                AllOf(HasSubstr("x.gguf"), HasSubstr(says)));
  };
  expect_error([](auto& g) { g.pre = "martian"; }, "tokenizer.ggml.pre 'martian' is not supported");
  expect_error([](auto& g) { g.model = "bert"; }, "tokenizer.ggml.model 'bert'");
  expect_error([](auto& g) { g.tokens.clear(); }, "tokens is empty");
  expect_error([](auto& g) { g.types.pop_back(); }, "5 tokens but 4 token types");
  expect_error([](auto& g) { g.types[1] = 9; }, "unknown token type 9");
  expect_error([](auto& g) { g.eos = 5; }, "eos_token_id is 5, but there are 5 tokens");
  expect_error([](auto& g) { g.bos = -7; }, "bos_token_id is -7");
  expect_error([](auto& g) { g.tokens[2] = "a"; }, "there twice");
  expect_error([](auto& g) { g.tokens[2] = "\xE4"; }, "token 2 is not valid UTF-8");
  expect_error([](auto& g) { g.merges = {"a c"}; }, "names 'c'");
  expect_error([](auto& g) { g.merges = {"\xF0"}; }, "merge 0 is not valid UTF-8");
  expect_error([](auto& g) { g.model = "llama"; }, "5 tokens but 0 scores");
}

TEST(GgufTokenizer, ATokenizerThatLlamaCppHasNoNameForIsNotExported) {
  for (const char* name :
       {"metaspace_always", "split_contiguous", "byte_level_prefix", "end_of_word_suffix"})
    EXPECT_THAT(test::error_of(ErrorKind::unavailable, [&] { to_gguf(load(name), {}, 1000); }),
                HasSubstr("cannot be written into a GGUF"))
        << name;
  EXPECT_THROW(to_gguf(load("smollm"), {}, 10), Error);  // fewer rows than ids
}

TEST(GgufTokenizer, AliasesOfPreAreKnown) {
  EXPECT_EQ(find_gguf_pre("llama3")->name, "llama-bpe");
  EXPECT_EQ(find_gguf_pre("")->name, "default");
  EXPECT_EQ(find_gguf_pre("deepseek-coder")->name, "deepseek-coder");
  EXPECT_EQ(find_gguf_pre("tekken"), nullptr);
  EXPECT_EQ(match_gguf_pre(Json()), nullptr);
}

}  // namespace
}  // namespace weft::text
