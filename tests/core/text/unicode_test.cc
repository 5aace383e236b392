#include "core/text/unicode.h"

#include <gtest/gtest.h>

#include <ctime>

namespace weft::text {
namespace {

TEST(Unicode, IllFormedPartsBecomeOneReplacementEach) {
  // Expected values: Python's bytes.decode(errors="replace").
  EXPECT_EQ(repair_utf8("a\xC3(b"), "a\uFFFD(b");
  EXPECT_EQ(repair_utf8("\xE4\xBD"), "\uFFFD");
  EXPECT_EQ(repair_utf8("\xF0\x9F\x98x"), "\uFFFDx");
  EXPECT_EQ(repair_utf8("\xC0\xAF"), "\uFFFD\uFFFD");
  EXPECT_EQ(repair_utf8("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(repair_utf8("\xF4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(repair_utf8("\x80\xFFok"), "\uFFFD\uFFFDok");
  EXPECT_EQ(repair_utf8("\xE0\x80\xF0\x9F\x98\x80"), "\uFFFD\uFFFD\U0001F600");
}

TEST(Unicode, ValidityIsThatOfTheStandard) {
  EXPECT_TRUE(is_valid_utf8("plain ASCII of some length, é, 你好, \U0010FFFF"));
  EXPECT_TRUE(is_valid_utf8(std::string_view("\0", 1)));
  for (const char* bad :
       {"\xC1\x80", "\xED\xBF\xBF", "\xF5\x80\x80\x80", "\x80", "12345678\xE2\x82"})
    EXPECT_FALSE(is_valid_utf8(bad));
}

TEST(Unicode, AStreamGivesWholeCharacters) {
  const std::string text = "é你😀a";
  Utf8Stream stream;
  std::string out;
  for (const char byte : text) {
    const std::string piece = stream.push(std::string_view(&byte, 1));
    EXPECT_TRUE(is_valid_utf8(piece));
    out += piece;
  }
  EXPECT_EQ(out + stream.finish(), text);
  EXPECT_EQ(stream.push("\xF0\x9F"), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
}

TEST(Unicode, CodePointsRoundTrip) {
  for (uint32_t c = 0; c < 0x110000; c += c < 0x3000 ? 1 : 97) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    append_utf8(c, text);
    size_t at = 0;
    ASSERT_EQ(next_code_point(text, at), c);
    ASSERT_EQ(at, text.size());
    ASSERT_TRUE(is_valid_utf8(text));
  }
}

TEST(Unicode, NormalForms) {
  EXPECT_EQ(normalize("e\u0301 \u212B", NormalForm::nfc), "\u00e9 \u00c5");
  EXPECT_EQ(normalize("\u00e9", NormalForm::nfd), "e\u0301");
  EXPECT_EQ(normalize("ﬁ ② ｶﾞ", NormalForm::nfkc), "fi 2 ガ");
  EXPECT_EQ(normalize("한", NormalForm::nfd), "\u1112\u1161\u11ab");
  EXPECT_EQ(normalize("\u1112\u1161\u11ab", NormalForm::nfc), "한");
  EXPECT_EQ(normalize("q\u0307\u0323", NormalForm::nfc), "q\u0323\u0307");
}

TEST(Unicode, CharactersNewerThanHuggingFacesNormalFormsStayAsTheyAre) {
  EXPECT_EQ(normalize("\u0c03\u09fe\u0cbc", NormalForm::nfc), "\u0c03\u09fe\u0cbc");
  EXPECT_EQ(normalize("\U00011935\U00011930", NormalForm::nfc), "\U00011935\U00011930");
}

TEST(Unicode, AMegabyteOfMarksIsNormalizedAtOnce) {
  std::string marks = "a";
  while (marks.size() < 1 << 20) marks += "\u0301\u0316\u0345\u0334";
  const std::clock_t start = std::clock();
  EXPECT_EQ(normalize(marks, NormalForm::nfd).size(), marks.size());
  EXPECT_LT(std::clock() - start, 5 * CLOCKS_PER_SEC);
}

TEST(Unicode, LowerCase) {
  EXPECT_EQ(to_lower("ÀΣİẞＡ1"), "àσi\u0307ßａ1");
}

TEST(Unicode, Properties) {
  for (const uint32_t c : {0x20u, 0x0Bu, 0x85u, 0xA0u, 0x2003u, 0x3000u})
    EXPECT_TRUE(is_whitespace(c)) << c;
  for (const uint32_t c : {0x180Eu, 0x200Bu, 0xFEFFu}) EXPECT_FALSE(is_whitespace(c)) << c;
  for (const uint32_t c : {0x39u, 0xBDu, 0x2167u, 0x663u}) EXPECT_TRUE(is_numeric(c)) << c;
  for (const uint32_t c : {0x5Fu, 0x301u, 0x4F60u, 0x24B6u}) EXPECT_TRUE(is_word(c)) << c;
  EXPECT_FALSE(is_word(0xBD));
  EXPECT_FALSE(is_numeric('a'));
}

}  // namespace
}  // namespace weft::text
