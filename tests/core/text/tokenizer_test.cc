#include "core/text/tokenizer.h"

#include <gtest/gtest.h>

#include <ctime>
#include <functional>
#include <thread>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/text/unicode.h"
#include "tests/support/test_data.h"

namespace weft::text {
namespace {

Json fixture_tokenizer(const std::string& name) {
  return Json::parse_file(test::fixture("tokenizer/" + name + ".json")).at("tokenizer");
}

// Of the processor: a busy machine is not a slow tokenizer.
double seconds_of(const std::function<void()>& work) {
  const std::clock_t start = std::clock();
  work();
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

TEST(Tokenizer, TellsItsTokens) {
  const Tokenizer tokenizer = Tokenizer::from_json(fixture_tokenizer("llama3"), "llama3");
  const int32_t bos = *tokenizer.id_of("<s>");
  EXPECT_EQ(tokenizer.token_of(bos), "<s>");
  EXPECT_TRUE(tokenizer.is_special(bos));
  EXPECT_FALSE(tokenizer.is_special(*tokenizer.id_of("<tok>")));
  EXPECT_FALSE(tokenizer.is_special(5));
  EXPECT_EQ(tokenizer.prefix_ids(), std::vector<int32_t>{bos});
  EXPECT_TRUE(tokenizer.suffix_ids().empty());
  EXPECT_EQ(tokenizer.added_tokens().size(), 4u);
  EXPECT_EQ(tokenizer.vocab_size(), tokenizer.added_tokens().back().id + 1);
  EXPECT_EQ(tokenizer.token_of(tokenizer.vocab_size()), std::nullopt);
  EXPECT_EQ(tokenizer.token_of(-1), std::nullopt);
  EXPECT_EQ(tokenizer.id_of("no such token"), std::nullopt);
}

TEST(Tokenizer, InvalidUtf8IsReadAsReplacementCharacters) {
  const Tokenizer tokenizer = Tokenizer::from_json(fixture_tokenizer("byte_level"), "byte_level");
  EXPECT_EQ(tokenizer.encode("ab\xFF\xE4\xBD cd"), tokenizer.encode("ab\uFFFD\uFFFD cd"));
}

TEST(Tokenizer, TheHashIsThatOfTheContentNotOfTheSpelling) {
  const Json pairs = fixture_tokenizer("byte_level"),
             strings = fixture_tokenizer("byte_level_merges_as_strings");
  const std::string hash = Tokenizer::from_json(pairs, "x").hash();
  EXPECT_EQ(hash, "0e06dc7741c03756849826fc8733deb7");  // stored in datasets: never changes
  EXPECT_EQ(Tokenizer::from_json(strings, "x").hash(), hash);
  Json::Object reversed(pairs.as_object().rbegin(), pairs.as_object().rend());
  EXPECT_EQ(Tokenizer::from_json(reversed, "x").hash(), hash);
  EXPECT_NE(Tokenizer::from_json(fixture_tokenizer("smollm"), "x").hash(), hash);
}

TEST(Tokenizer, ManyThreadsEncodeAtOnce) {
  const Tokenizer tokenizer = Tokenizer::from_json(fixture_tokenizer("qwen"), "qwen");
  std::vector<std::string> texts;
  for (int i = 0; i < 300; ++i)
    texts.push_back("text " + std::to_string(i * i) + " the other's é́ 你好 fox");
  std::vector<std::vector<int32_t>> expected;
  for (const auto& text : texts) expected.push_back(tokenizer.encode(text));
  std::vector<int> wrong(8);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < wrong.size(); ++t)
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < texts.size(); ++i) {
        const size_t at = (i * 7 + t * 31) % texts.size();
        wrong[t] += tokenizer.encode(texts[at]) != expected[at];
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(8));
}

TEST(Tokenizer, LongPiecesTakeNearLinearTime) {
  // One piece of a megabyte, at first without and then with merges everywhere.
  const Tokenizer tokenizer = Tokenizer::from_json(fixture_tokenizer("llama2"), "llama2");
  for (const std::string unit : {"q", "the other ", "\u4f60"}) {
    std::string text;
    while (text.size() < 1 << 20) text += unit;
    std::vector<int32_t> ids;
    EXPECT_LT(seconds_of([&] { ids = tokenizer.encode(text); }), 10);
    EXPECT_EQ(tokenizer.decode(ids), text);
  }
}

TEST(Tokenizer, ShortAndLongPiecesMergeAlike) {
  // Pieces up to 48 symbols are merged by scanning, longer ones by a heap; a long one is cut at
  // spaces.
  Json json = fixture_tokenizer("byte_level");
  const Tokenizer by_word = Tokenizer::from_json(json, "x");
  json.set("pre_tokenizer",
           Json::Object{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}});
  const Tokenizer whole = Tokenizer::from_json(json, "x");
  std::string text = "the";
  std::vector<int32_t> expected = by_word.encode(text);
  for (int i = 0; i < 200; ++i) {
    const std::string word = i % 2 ? " whether" : " boxes";  // no merge crosses a space
    text += word;
    for (const int32_t id : by_word.encode(word)) expected.push_back(id);
  }
  EXPECT_EQ(whole.encode(text), expected);
}

TEST(StreamDecoder, NeverSplitsACharacter) {
  const Tokenizer tokenizer = Tokenizer::from_json(fixture_tokenizer("byte_level"), "byte_level");
  const std::string text = "a 👨‍👩‍👧‍👦 é 你好 🇩🇪!";
  StreamDecoder stream(tokenizer);
  std::string out;
  for (const int32_t id : tokenizer.encode(text)) {
    const std::string piece = stream.push(id);
    EXPECT_TRUE(is_valid_utf8(piece)) << piece;
    EXPECT_EQ(piece.find("\uFFFD"), std::string::npos);
    out += piece;
  }
  EXPECT_EQ(out + stream.finish(), text);
}

TEST(StreamDecoder, GivesCharactersOfByteTokensAsSoonAsTheyAreWhole) {
  const Tokenizer tokenizer = Tokenizer::from_json(fixture_tokenizer("llama2"), "llama2");
  StreamDecoder stream(tokenizer);
  std::vector<std::string> pieces;
  for (const char* token : {"<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "<0xE4>", "a", "<0xC3>"})
    pieces.push_back(stream.push(*tokenizer.id_of(token)));
  pieces.push_back(stream.finish());
  EXPECT_EQ(pieces, (std::vector<std::string>{"", "", "", "😀", "", "\uFFFDa", "", "\uFFFD"}));
}

TEST(StreamDecoder, StripsTheFirstSpaceOnly) {
  const Tokenizer tokenizer = Tokenizer::from_json(fixture_tokenizer("llama2"), "llama2");
  StreamDecoder stream(tokenizer, /*skip_special=*/true);
  const auto space = *tokenizer.id_of("▁"), bos = *tokenizer.id_of("<s>");
  EXPECT_EQ(stream.push(bos), "");
  EXPECT_EQ(stream.push(space), "");
  EXPECT_EQ(stream.push(space), " ");
  EXPECT_EQ(stream.finish(), "");
  EXPECT_EQ(stream.push(space), "");  // a new text
}

}  // namespace
}  // namespace weft::text
