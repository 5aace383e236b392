// Ids of real tokenizers, as Hugging Face's tokenizers give them.
#include <gtest/gtest.h>

#include <fstream>

#include "core/base/json.h"
#include "core/text/tokenizer.h"
#include "tests/support/test_data.h"

namespace weft::text {
namespace {

struct Golden {
  std::string text;
  std::vector<int32_t> ids;
};

std::vector<Golden> read_golden(const std::string& path) {
  std::ifstream in(path);
  std::vector<Golden> out;
  for (std::string line; std::getline(in, line);) {
    const Json json = Json::parse(line, path);
    Golden golden{json.at("text").as_string(), {}};
    for (const Json& id : json.at("ids").as_array())
      golden.ids.push_back(static_cast<int32_t>(id.as_int()));
    out.push_back(std::move(golden));
  }
  return out;
}

struct Case {
  std::string folder, file;
  size_t records;
  bool add_special;
};

class Goldens : public ::testing::TestWithParam<Case> {};

TEST_P(Goldens, AllIdsAreEqualAndDecodeGivesTheText) {
  SKIP_WITHOUT_SHARED_DATA();
  const Case& c = GetParam();
  const std::string folder = test::shared_data() + "/" + c.folder;
  const Tokenizer tokenizer = Tokenizer::from_file(folder + "/tokenizer.json");
  const auto goldens = read_golden(folder + "/" + c.file);
  ASSERT_EQ(goldens.size(), c.records);
  for (const auto& [text, ids] : goldens) {
    EXPECT_EQ(tokenizer.encode(text, {.add_special = c.add_special}), ids) << text;
    EXPECT_EQ(tokenizer.decode(ids, /*skip_special=*/c.add_special), text);
  }
}

TEST_P(Goldens, StreamedTextIsTheDecodedTextInWholeCharacters) {
  SKIP_WITHOUT_SHARED_DATA();
  const Case& c = GetParam();
  const std::string folder = test::shared_data() + "/" + c.folder;
  const Tokenizer tokenizer = Tokenizer::from_file(folder + "/tokenizer.json");
  StreamDecoder stream(tokenizer);
  for (const auto& [text, ids] : read_golden(folder + "/" + c.file)) {
    std::string streamed;
    for (const int32_t id : ids) {
      const std::string piece = stream.push(id);
      EXPECT_EQ(piece.find("\uFFFD"), std::string::npos);
      streamed += piece;
    }
    streamed += stream.finish();
    EXPECT_EQ(streamed, tokenizer.decode(ids));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Real, Goldens,
    ::testing::Values(Case{"tokenizers/gpt2", "golden_ids.jsonl", 464, false},
                      Case{"tokenizers/qwen3", "golden_ids.jsonl", 464, false},
                      Case{"tokenizers/minimind", "golden_ids.jsonl", 464, false},
                      Case{"models/stories260K-hf", "golden_tokens.jsonl", 204, true}),
    [](const auto& info) {
      std::string name = info.param.folder.substr(info.param.folder.find('/') + 1);
      for (char& c : name)
        if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
      return name;
    });

class SameAfterWriting : public ::testing::TestWithParam<const char*> {};

TEST_P(SameAfterWriting, ToJsonIsTheFileThatWasRead) {
  SKIP_WITHOUT_SHARED_DATA();
  const std::string path = test::shared_data() + "/" + GetParam() + "/tokenizer.json";
  const Json original = Json::parse_file(path);
  const Tokenizer tokenizer = Tokenizer::from_json(original, path);
  EXPECT_TRUE(tokenizer.to_json() == original);
  EXPECT_EQ(tokenizer.hash().size(), 32u);
  EXPECT_EQ(Tokenizer::from_json(tokenizer.to_json(), "again").hash(), tokenizer.hash());
}

INSTANTIATE_TEST_SUITE_P(Real, SameAfterWriting,
                         ::testing::Values("tokenizers/gpt2", "tokenizers/minimind",
                                           "models/stories260K-hf"));

}  // namespace
}  // namespace weft::text
