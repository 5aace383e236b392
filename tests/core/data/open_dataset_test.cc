#include "core/data/open_dataset.h"

#include <gmock/gmock.h>

#include <set>

#include "core/base/error.h"
#include "tests/core/data/byte_tokenizer.h"
#include "tests/support/errors.h"
#include "tests/support/test_data.h"

namespace weft::data {
namespace {

using test::write_file;
using ::testing::HasSubstr;

class OpenDataset : public ::testing::Test {
 protected:
  OpenDataset() { config_.seq_len = 10; }

  Datasets open() {
    return open_datasets(config_, tokenizer_, tokenizer_config_, {.vocab_size = vocab_size_});
  }
  std::string complaint() {
    return test::error_of(ErrorKind::bad_data, [&] { open(); });
  }
  void train_on(const std::string& text, const std::string& name = "a.jsonl", double weight = 1) {
    config_.train.push_back({write_file(temp_.file(name), text), weight});
  }
  std::vector<std::string> texts(const Dataset& dataset) {
    std::vector<std::string> result;
    for (int64_t i = 0; i < dataset.size(); ++i)
      result.push_back(tokenizer_.decode(dataset.example(i).ids));
    return result;
  }

  test::TempDir temp_;
  DataConfig config_;
  text::Tokenizer tokenizer_ = test::byte_tokenizer();
  text::TokenizerConfig tokenizer_config_ = test::chatml_config();
  int64_t vocab_size_ = test::kByteVocab;
};

constexpr const char* kLong = "{\"text\": \"short\"}\n{\"text\": \"abcdefghijklmnopqrstuvwxyz\"}\n";

TEST_F(OpenDataset, ARecordThatIsTooLongIsNamedWithItsLength) {
  train_on(kLong);
  EXPECT_THAT(complaint(), HasSubstr("a.jsonl:2: the record has 26 tokens, data.seq_len is 10"));
}

TEST_F(OpenDataset, ARecordThatIsTooLongIsDroppedTruncatedOrSplit) {
  train_on(kLong);
  config_.too_long = TooLong::drop;
  EXPECT_EQ(texts(*open().train), std::vector<std::string>({"short"}));
  config_.too_long = TooLong::truncate;
  EXPECT_EQ(texts(*open().train), std::vector<std::string>({"short", "abcdefghij"}));
  config_.too_long = TooLong::split;
  EXPECT_EQ(texts(*open().train),
            std::vector<std::string>({"short", "abcdefghij", "klmnopqrst", "uvwxyz"}));
}

TEST_F(OpenDataset, WhatIsTruncatedToThePromptIsLeftOut) {
  tokenizer_config_.chat_template.clear();
  config_.too_long = TooLong::truncate;
  train_on(
      "{\"prompt\": \"0123456789\", \"completion\": \"gone\"}\n"
      "{\"prompt\": \"a\", \"completion\": \"b\"}");
  EXPECT_EQ(texts(*open().train), std::vector<std::string>({"ab<|im_end|>"}));
  config_.train.clear();
  train_on("{\"prompt\": \"0123456789\", \"completion\": \"gone\"}");
  EXPECT_THAT(complaint(), HasSubstr("no records are left"));
}

TEST_F(OpenDataset, TheHeldOutShareIsStableWhenRecordsMoveAndCome) {
  std::string forth, back;
  for (int i = 0; i < 400; ++i) {
    const std::string line = "{\"text\": \"text " + std::to_string(i) + "\"}\n";
    forth += line;
    if (i < 300) back = line + back;
  }
  config_.eval_share = 0.2;
  train_on(back);
  const Datasets few = open();
  config_.train.clear();
  train_on(forth);
  const Datasets more = open();
  const auto few_held = texts(*few.eval), more_held = texts(*more.eval);
  const std::set<std::string> held(more_held.begin(), more_held.end());
  EXPECT_NEAR(static_cast<double>(more_held.size()), 80, 30);
  EXPECT_EQ(more.train->size() + more.eval->size(), 400);
  for (const std::string& text : few_held) EXPECT_TRUE(held.count(text)) << text;
  for (const std::string& text : texts(*few.train)) {
    EXPECT_FALSE(held.count("<|endoftext|>" + text)) << text;
  }
}

TEST_F(OpenDataset, FilesKeepTheirWeights) {
  train_on("{\"text\": \"one\"}", "a.jsonl", 2);
  train_on("{\"text\": \"two\"}", "b.jsonl", 0.5);
  const auto train = open().train;
  EXPECT_EQ(train->weight(0), 2);
  EXPECT_EQ(train->weight(1), 0.5);
}

TEST_F(OpenDataset, TokensOutsideOfTheModelsVocabularyAreRefused) {
  train_on("{\"text\": \"abc\"}");
  vocab_size_ = 98;
  EXPECT_THAT(complaint(), HasSubstr("a.jsonl:1: token id 98 is outside the model's vocabulary"));
}

TEST_F(OpenDataset, HashTellsDatasetsApart) {
  train_on("{\"text\": \"abc\"}");
  const std::string hash = open().train->hash();
  EXPECT_EQ(open().train->hash(), hash);
  config_.train[0].weight = 2;
  EXPECT_NE(open().train->hash(), hash);
}

}  // namespace
}  // namespace weft::data
