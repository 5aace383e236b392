// Files that are wrong or ask for what is not supported: an error that names the place, never a
// guess.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/text/tokenizer.h"
#include "tests/support/errors.h"
#include "tests/support/test_data.h"

namespace weft::text {
namespace {

using ::testing::HasSubstr;

// A whole tokenizer of four tokens, to be broken.
Json small() {
  return Json::parse(R"({"version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [{"id": 4, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                      "normalized": false, "special": true}],
    "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "aab": 3},
              "merges": [["a", "b"], ["a", "ab"]]}})",
                     "small");
}

Json& member(Json& object, const std::string& key) {
  for (auto& [name, value] : object.object())
    if (name == key) return value;
  object.set(key, Json());
  return member(object, key);
}

void expect_error(const std::function<void(Json&)>& breaks, const std::string& says) {
  Json json = small();
  breaks(json);
  EXPECT_THAT(
      test::error_of(ErrorKind::bad_data, [&] { Tokenizer::from_json(json, "x/tokenizer.json"); }),
      AllOf(HasSubstr("x/tokenizer.json"), HasSubstr(says)));
}

Json typed(const char* type) {
  return Json::Object{{"type", type}};
}

Json split(const std::string& regex) {
  return Json::Object{{"type", "Split"},
                      {"pattern", Json::Object{{"Regex", regex}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
}

TEST(TokenizerErrors, TheSmallTokenizerIsRight) {
  EXPECT_THAT(Tokenizer::from_json(small(), "x").encode("aab<s>b"),
              ::testing::ElementsAre(3, 4, 1));
}

TEST(TokenizerErrors, PartsThatAreNotSupportedAreNamed) {
  expect_error([](Json& j) { j.set("normalizer", typed("Precompiled")); },
               "normalizer 'Precompiled'");
  expect_error([](Json& j) { j.set("pre_tokenizer", typed("UnicodeScripts")); },
               "pre-tokenizer 'UnicodeScripts'");
  expect_error([](Json& j) { j.set("decoder", typed("WordPiece")); }, "decoder 'WordPiece'");
  expect_error([](Json& j) { j.set("post_processor", typed("BertProcessing")); },
               "post-processor 'BertProcessing'");
  expect_error([](Json& j) { member(j, "model").set("type", "Unigram"); }, "model 'Unigram'");
  expect_error([](Json& j) { member(j, "model").set("dropout", 0.1); }, "dropout");
  expect_error([](Json& j) { j.set("version", "2.0"); }, "version '2.0'");
  expect_error(
      [](Json& j) {
        j.set("normalizer", Json::Object{{"type", "Sequence"},
                                         {"normalizers", Json::Array{typed("NFC"), typed("Nmt")}}});
      },
      "normalizer.normalizers[1]: normalizer 'Nmt'");
}

TEST(TokenizerErrors, UnknownFieldsAreNotIgnored) {
  expect_error([](Json& j) { j.set("new_feature", true); }, "unknown field 'new_feature'");
  expect_error([](Json& j) { member(j, "model").set("cutoff", 3); },
               "model: unknown field 'cutoff'");
  expect_error(
      [](Json& j) {
        j.set("pre_tokenizer", Json::Object{{"type", "ByteLevel"}, {"keep", true}});
      },
      "pre_tokenizer: unknown field 'keep'");
}

TEST(TokenizerErrors, MergesNameTokensThatExist) {
  expect_error(
      [](Json& j) {
        member(j, "model").set("merges", Json::Array{Json::Array{"a", "c"}});
      },
      "merge 0 of 'a' and 'c' names 'c', which is not in the vocabulary");
  expect_error([](Json& j) { member(j, "model").set("merges", Json::Array{"b a"}); }, "names 'ba'");
  expect_error([](Json& j) { member(j, "model").set("merges", Json::Array{"ab"}); },
               "neither \"a b\" nor");
  expect_error(
      [](Json& j) {
        member(j, "model").set("merges", Json::Array{Json::Array{"a", 1}});
      },
      "neither");
  expect_error([](Json& j) { member(j, "model").set("merges", "a b"); }, "expected an array");
}

TEST(TokenizerErrors, IdsAreUniqueAndInRange) {
  const auto vocab = [](Json::Object tokens) {
    return [tokens](Json& j) { member(j, "model").set("vocab", tokens); };
  };
  expect_error(vocab({{"a", 0}, {"b", 0}}), "the id 0 belongs to 'a' and to 'b'");
  expect_error(vocab({{"a", -1}}), "the id -1 of 'a' is out of range");
  expect_error(vocab({{"a", int64_t{1} << 40}}), "out of range");
  expect_error(vocab({{"a", 2000000000}}), "out of range in a vocabulary of 1 tokens");
  expect_error(vocab({{"a", "0"}}), "out of range");
  expect_error(vocab({{"a", 0}, {"a", 1}}), "the token 'a' is there twice");
}

TEST(TokenizerErrors, AddedTokensAgreeWithTheVocabulary) {
  const auto token = [](int64_t id, const char* content) {
    return Json::Object{{"id", id}, {"content", content}, {"special", true}};
  };
  const auto added = [](Json::Array tokens) {
    return [tokens](Json& j) { j.set("added_tokens", tokens); };
  };
  expect_error(added({token(0, "<s>")}), "'<s>' has the id 0, but in the vocabulary that is 'a'");
  expect_error(added({token(4, "ab")}), "'ab' has the id 4, but in the vocabulary it has 2");
  expect_error(added({token(9, "<s>")}), "which gives 4");
  expect_error(added({token(4, "<s>"), token(5, "<s>")}), "there twice");
  expect_error(added({token(-1, "<s>")}), "out of range");
  expect_error(added({token(int64_t{1} << 33, "<s>")}), "out of range");
  expect_error(added({Json("x")}), "expected an object");
}

TEST(TokenizerErrors, TheTemplateUsesTokensThatExist) {
  const auto post = [](const char* text) {
    return [text](Json& j) { j.set("post_processor", Json::parse(text, "test")); };
  };
  expect_error(
      post(
          R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
                        "special_tokens": {}})"),
      "special_tokens lacks '<s>'");
  expect_error(
      post(
          R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
                        "special_tokens": {"<s>": {"ids": [77]}}})"),
      "no token has the id 77");
  expect_error(post(R"({"type": "TemplateProcessing", "single": [], "special_tokens": {}})"),
               "lacks the text");
}

TEST(TokenizerErrors, RegexesThatCannotBeRunAlikeAreNamed) {
  const auto regex = [](const std::string& pattern) {
    return [pattern](Json& j) { j.set("pre_tokenizer", split(pattern)); };
  };
  expect_error(regex("(a"), "is wrong at byte");
  expect_error(regex("[a&&b]"), "uses '&&'");
  expect_error(regex("[[:alpha:]]"), "[: :]");
  expect_error(regex("(*LIMIT_MATCH=1)a"), "uses '(*'");
  expect_error(regex("(?R)"), "not supported");
  expect_error(regex("a\\"), "\\ at the end");
  expect_error(regex("\\p{Nonsense}"), "\\p{Nonsense}");
  expect_error(regex("[a"), "[ without ]");
  expect_error(regex(std::string(1 << 20, 'a')), "longer than the limit");
  expect_error(regex("((((a{1000}){1000}){1000}){1000})"), "regular expression");
  expect_error(regex(std::string(5000, '(') + std::string(5000, ')')), "regular expression");
}

TEST(TokenizerErrors, ARegexThatExplodesEndsInAnError) {
  Json json = small();
  json.set("pre_tokenizer", split("(a+)+$|(?:a|aa)+\\z"));
  const Tokenizer tokenizer = Tokenizer::from_json(json, "evil.json");
  EXPECT_THAT(
      test::error_of(ErrorKind::bad_data, [&] { tokenizer.encode(std::string(5000, 'a') + "b"); }),
      HasSubstr("evil.json"));
}

TEST(TokenizerErrors, TypesAreChecked) {
  for (const char* key :
       {"model", "normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens"})
    expect_error([&](Json& j) { j.set(key, 7); }, "x/tokenizer.json");
  expect_error([](Json& j) { j.object().clear(); }, "it has no 'model'");
  EXPECT_THROW(Tokenizer::from_json(Json(), "x"), Error);
  EXPECT_THROW(Tokenizer::from_file("/nonexistent/tokenizer.json"), Error);
}

TEST(TokenizerErrors, NegativeIdsAreNotDecoded) {
  const Tokenizer tokenizer = Tokenizer::from_json(small(), "x");
  EXPECT_THROW(tokenizer.decode(std::vector<int32_t>{-1}), Error);
  EXPECT_THROW(StreamDecoder(tokenizer).push(-5), Error);
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{3, 1000000}),
            "aab");  // a padded row of the embedding
}

}  // namespace
}  // namespace weft::text
