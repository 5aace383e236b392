// Every feature of tokenizer.json that is supported, on small files, as Hugging Face's tokenizers
// do it. The fixtures are made by tests/fixtures/tokenizer/make_fixtures.py.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "core/base/json.h"
#include "core/text/tokenizer.h"
#include "core/text/unicode.h"
#include "tests/support/test_data.h"

namespace weft::text {
namespace {

std::vector<int32_t> to_ids(const Json& list) {
  std::vector<int32_t> ids;
  for (const Json& id : list.as_array()) ids.push_back(static_cast<int32_t>(id.as_int()));
  return ids;
}

std::vector<std::string> fixture_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(test::fixture("tokenizer")))
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

class Features : public ::testing::TestWithParam<std::string> {
 protected:
  Json file = Json::parse_file(test::fixture("tokenizer/" + GetParam() + ".json"));
  Tokenizer tokenizer = Tokenizer::from_json(file.at("tokenizer"), GetParam());

  // A member that the script leaves out where it equals another.
  static const Json& member(const Json& record, const char* key, const char* same) {
    return record.contains(key) ? record.at(key) : record.at(same);
  }
};

TEST_P(Features, IdsAreThoseOfHuggingFace) {
  for (const Json& record : file.at("encode").as_array()) {
    const std::string& text = record.at("text").as_string();
    EXPECT_EQ(tokenizer.encode(text), to_ids(record.at("ids"))) << text;
    EXPECT_EQ(tokenizer.encode(text, {.add_special = true}),
              to_ids(member(record, "with_special", "ids")))
        << text;
    EXPECT_EQ(tokenizer.encode(text, {.parse_special = false}),
              to_ids(member(record, "plain", "ids")))
        << text;
  }
}

TEST_P(Features, TextsAreThoseOfHuggingFace) {
  for (const Json& record : file.at("encode").as_array()) {
    const auto ids = to_ids(record.at("ids")),
               special = to_ids(member(record, "with_special", "ids"));
    EXPECT_EQ(tokenizer.decode(ids), member(record, "decoded", "text").as_string());
    EXPECT_EQ(tokenizer.decode(special, /*skip_special=*/true),
              member(record, "skipped", "text").as_string());
  }
  for (const Json& record : file.at("decode").as_array())
    EXPECT_EQ(tokenizer.decode(to_ids(record.at("ids"))), record.at("text").as_string());
}

TEST_P(Features, StreamedTextIsTheDecodedText) {
  StreamDecoder stream(tokenizer);
  const auto streamed = [&](const std::vector<int32_t>& ids) {
    std::string text;
    for (const int32_t id : ids) {
      const std::string piece = stream.push(id);
      EXPECT_TRUE(is_valid_utf8(piece));
      text += piece;
    }
    return text + stream.finish();
  };
  for (const Json& record : file.at("encode").as_array()) {
    const auto ids = to_ids(record.at("ids"));
    EXPECT_EQ(streamed(ids), tokenizer.decode(ids));
  }
  const bool byte_tokens =
      tokenizer.id_of("<0x00>").has_value();  // malformed runs of them may differ
  for (const Json& record : file.at("decode").as_array()) {
    const auto ids = to_ids(record.at("ids"));
    if (byte_tokens)
      EXPECT_TRUE(is_valid_utf8(streamed(ids)));
    else
      EXPECT_EQ(streamed(ids), tokenizer.decode(ids));
  }
}

TEST_P(Features, TheFileIsGivenBack) {
  EXPECT_TRUE(tokenizer.to_json() == file.at("tokenizer"));
}

INSTANTIATE_TEST_SUITE_P(Fixture, Features, ::testing::ValuesIn(fixture_names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace weft::text
