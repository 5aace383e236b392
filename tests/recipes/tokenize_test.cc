#include "recipes/tokenize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "core/base/error.h"
#include "core/base/json.h"
#include "tests/support/errors.h"
#include "tests/support/test_data.h"

namespace weft::recipes {
namespace {

std::string tokenize(const std::string& model, const std::string& input, bool decode = false) {
  std::istringstream in(input);
  std::ostringstream out;
  run_tokenize({.model = model, .decode = decode}, in, out);
  return out.str();
}

std::string error(const std::string& model, const std::string& input, bool decode = false) {
  return test::error_of(ErrorKind::bad_data, [&] { tokenize(model, input, decode); });
}

// A byte-level tokenizer of two characters and one special token.
class Tokenize : public ::testing::Test {
 protected:
  Tokenize() {
    std::ofstream(dir_.file("tokenizer.json")) << R"({
      "added_tokens": [{"id": 3, "content": "<s>", "special": true, "single_word": false,
                        "lstrip": false, "rstrip": false, "normalized": false}],
      "normalizer": null, "post_processor": null,
      "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
      "decoder": {"type": "ByteLevel"},
      "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})";
  }
  std::string model() const { return dir_.path().string(); }
  test::TempDir dir_;
};

TEST_F(Tokenize, ALineOfTextIsALineOfIds) {
  EXPECT_EQ(tokenize(model(), "{\"text\": \"abba\"}\n{\"text\": \"\"}\n{\"text\": \"<s>b\"}\n"),
            "[2, 1, 0]\n[]\n[3, 1]\n");
  EXPECT_EQ(tokenize(dir_.file("tokenizer.json"), "{\"text\": \"a\"}"), "[0]\n");
}

TEST_F(Tokenize, DecodeIsTheOtherWay) {
  EXPECT_EQ(tokenize(model(), "[2, 1, 0]\n[]\n", true), "{\"text\": \"abba\"}\n{\"text\": \"\"}\n");
}

TEST_F(Tokenize, BadLinesAreNamedByNumber) {
  EXPECT_THAT(error(model(), "{\"text\": \"a\"}\nnonsense\n"),
              ::testing::HasSubstr("standard input:2: not valid JSON"));
  EXPECT_THAT(error(model(), "{\"txt\": \"a\"}\n"), ::testing::HasSubstr("standard input:1"));
  EXPECT_THAT(error(model(), "[1, 4]\n", true), ::testing::HasSubstr("4 is no token id"));
  EXPECT_THAT(error(model(), "[-1]\n", true), ::testing::HasSubstr("-1 is no token id"));
  EXPECT_THAT(error(model(), "{}\n", true), ::testing::HasSubstr("array of token ids"));
}

TEST(TokenizeFiles, EqualTheGoldenIdsOfHuggingFace) {
  SKIP_WITHOUT_SHARED_DATA();
  for (const char* name : {"gpt2", "qwen3", "minimind"}) {
    const std::string folder = test::shared_data() + "/tokenizers/" + name;
    std::ifstream golden(folder + "/golden_ids.jsonl");
    std::string expected, input;
    for (std::string line; std::getline(golden, line);) {
      const Json json = Json::parse(line, name);
      expected += json.at("ids").dump() + "\n";
      input += line + "\n";
    }
    ASSERT_FALSE(input.empty());
    EXPECT_TRUE(tokenize(folder, input) == expected) << name;
  }
}

}  // namespace
}  // namespace weft::recipes
