#include "core/data/hdf5_dataset.h"

#include <gmock/gmock.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <thread>

#include "core/base/error.h"
#include "core/data/open_dataset.h"
#include "tests/core/data/byte_tokenizer.h"
#include "tests/support/errors.h"
#include "tests/support/test_data.h"

namespace weft::data {
namespace {

using test::write_file;
using ::testing::HasSubstr;

std::string read_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

class Hdf5Dataset : public ::testing::Test {
 protected:
  Hdf5Dataset() {
    dataset_.add({.ids = {10, 11, 12},
                  .trained = {0, 1, 1},
                  .answer_begin = 1,
                  .answer_end = 2,
                  .record_hash = 0xfedcba9876543210u},
                 1);
    dataset_.add({.ids = {20, 99}, .trained = {1, 1}, .record_hash = 7}, 1);
    for (int i = 0; i < 200; ++i)
      dataset_.add({.ids = {30, 31, 32, i % 100}, .trained = {1, 1, 1, 1}}, 1);
  }

  std::string write(int64_t vocab_size = 100) {
    write_hdf5_dataset(path_, dataset_, "aaaa", vocab_size);
    return path_;
  }
  std::vector<Example> read(const std::string& hash = "aaaa") {
    std::vector<Example> examples;
    read_hdf5_dataset(path_, hash, [&](const Example& example, const std::string&) {
      examples.push_back(example);
      return true;
    });
    return examples;
  }
  std::string complaint(const std::string& hash = "aaaa") {
    return test::error_of(ErrorKind::bad_data, [&] { read(hash); });
  }
  // Replaces the first `old` in the file.
  void patch(const std::string& old, const std::string& with) {
    std::string bytes = read_bytes(path_);
    const size_t at = bytes.find(old);
    ASSERT_NE(at, std::string::npos);
    write_file(path_, bytes.replace(at, with.size(), with));
  }

  test::TempDir temp_;
  std::string path_ = temp_.file("data.h5");
  TokenizedDataset dataset_;
};

std::string words(std::initializer_list<uint64_t> values) {
  std::string bytes(values.size() * 8, '\0');
  std::memcpy(bytes.data(), values.begin(), bytes.size());
  return bytes;
}

TEST_F(Hdf5Dataset, IsReadAsItWasWritten) {
  for (int64_t vocab_size : {100, 100000}) {
    write(vocab_size);
    const auto examples = read();
    ASSERT_EQ(static_cast<int64_t>(examples.size()), dataset_.size());
    for (int64_t i = 0; i < dataset_.size(); ++i) {
      const ExampleView wanted = dataset_.example(i);
      const Example& got = examples[static_cast<size_t>(i)];
      EXPECT_TRUE(std::equal(wanted.ids.begin(), wanted.ids.end(), got.ids.begin(), got.ids.end()));
      EXPECT_TRUE(std::equal(wanted.trained.begin(), wanted.trained.end(), got.trained.begin()));
      EXPECT_EQ(wanted.answer_begin, got.answer_begin);
      EXPECT_EQ(wanted.answer_end, got.answer_end);
      EXPECT_EQ(wanted.record_hash, got.record_hash);
    }
    const Hdf5DatasetInfo info = read_hdf5_info(path_);
    EXPECT_EQ(info.documents, 202);
    EXPECT_EQ(info.tokens, 805);
    EXPECT_EQ(info.vocab_size, vocab_size);
    EXPECT_EQ(info.tokenizer_hash, "aaaa");
    EXPECT_FALSE(info.weft_version.empty());
  }
}

TEST_F(Hdf5Dataset, TheSameDatasetIsTheSameBytesInAnotherSecond) {
  const std::string first = read_bytes(write());
  std::this_thread::sleep_for(std::chrono::milliseconds(1001));
  EXPECT_TRUE(read_bytes(write()) == first);
}

TEST_F(Hdf5Dataset, OfAnotherTokenizerIsRefusedNamingBoth) {
  write();
  EXPECT_THAT(complaint("bbbb"), HasSubstr("tokenizer aaaa, this model has bbbb"));
}

TEST_F(Hdf5Dataset, IdsOutsideTheVocabularyAreRefused) {
  write(99);
  EXPECT_THAT(complaint(), HasSubstr("document 1: token id 99 is outside the vocabulary of 99"));
}

TEST_F(Hdf5Dataset, OffsetsThatGoDownOrOutAreRefused) {
  write();
  patch(words({0, 3, 5, 9}), words({0, 3, 2}));
  EXPECT_THAT(complaint(), HasSubstr("doc_offsets[2] = 2 is below the one before"));
  patch(words({0, 3, 2, 9}), words({1, 3, 5}));
  EXPECT_THAT(complaint(), HasSubstr("doc_offsets go from 1 to 805, there are 805 tokens"));
  write();
  patch(words({801, 805}), words({801, ~uint64_t{0}}));
  EXPECT_THAT(complaint(), HasSubstr("there are 805 tokens"));
  write();
  patch(words({0, 3, 5, 9}), words({0, ~uint64_t{0}, 5}));
  EXPECT_THAT(complaint(), HasSubstr("is below the one before"));
}

TEST_F(Hdf5Dataset, AnswersOutsideOfTheirDocumentAreRefused) {
  write();
  patch(words({1, 2, ~uint64_t{0}}), words({1, 4}));
  EXPECT_THAT(complaint(), HasSubstr("document 0: answer range [1, 4) in 3 tokens"));
}

TEST_F(Hdf5Dataset, WhatIsNoneIsRefused) {
  write_file(path_, "{\"text\": \"a\"}\n");
  EXPECT_FALSE(is_hdf5_file(path_));
  EXPECT_THAT(complaint(), HasSubstr("no HDF5 file"));
  write();
  patch("weft-dataset", "left-dataset");
  EXPECT_THAT(complaint(), HasSubstr("no dataset of weft"));
  write();
  patch("loss_mask", "lost_mask");
  EXPECT_THAT(complaint(), HasSubstr("damaged, or no dataset of weft"));  // a checksum fails
  EXPECT_THROW(is_hdf5_file(temp_.file("nowhere.h5")), Error);
}

TEST_F(Hdf5Dataset, CutOffAnywhereIsRefused) {
  const std::string bytes = read_bytes(write());
  for (size_t size = 0; size < bytes.size(); size += 97) {
    write_file(path_, bytes.substr(0, size));
    EXPECT_THROW(read(), Error) << size;
  }
}

TEST_F(Hdf5Dataset, AnyChangedByteIsRefusedOrReadWithoutHarm) {
  const std::string bytes = read_bytes(write());
  for (size_t at = 0; at < bytes.size(); at += 13) {
    std::string changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ 0xff);
    write_file(path_, changed);
    try {
      for (const Example& example : read()) ASSERT_LE(example.ids.size(), 805u);
    } catch (const Error&) {
    }
  }
}

TEST_F(Hdf5Dataset, ThatCannotBeWrittenLeavesNothing) {
  const auto write = [&] {
    write_hdf5_dataset(temp_.file("no/such/folder.h5"), dataset_, "aaaa", 100);
  };
  EXPECT_THAT(test::error_of(ErrorKind::io, write), HasSubstr("No such file or directory"));
  EXPECT_TRUE(std::filesystem::is_empty(temp_.path()));
}

TEST_F(Hdf5Dataset, TrainsLikeTheRecordsThatItWasMadeFrom) {
  const auto tokenizer = test::byte_tokenizer();
  DataConfig config;
  config.seq_len = 64;
  config.eval_share = 0.3;
  std::string text;
  for (int i = 0; i < 60; ++i)
    text += "{\"text\": \"t" + std::to_string(i) + "\", \"label\": \"" + std::to_string(i % 7) +
            "\"}\n";
  const auto open = [&](const std::string& path, double share) {
    config.train = {{path}};
    config.eval_share = share;
    return open_datasets(config, tokenizer, test::chatml_config(),
                         {.vocab_size = test::kByteVocab});
  };
  const std::string jsonl = write_file(temp_.file("a.jsonl"), text);
  write_hdf5_dataset(path_, *open(jsonl, 0).train, tokenizer.hash(), test::kByteVocab);
  const Datasets records = open(jsonl, 0.3), tokens = open(path_, 0.3);
  EXPECT_EQ(records.train->hash(), tokens.train->hash());
  EXPECT_EQ(records.eval->hash(), tokens.eval->hash());
  EXPECT_EQ(records.eval->example(0).answer_end, tokens.eval->example(0).answer_end);
  config.seq_len = 8;
  EXPECT_THROW(open(path_, 0), Error);  // too long
}

}  // namespace
}  // namespace weft::data
