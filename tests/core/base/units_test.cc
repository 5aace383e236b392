#include "core/base/units.h"

#include <gtest/gtest.h>

#include "core/base/nearest.h"

namespace weft {
namespace {

TEST(Units, SizesAreDecimalOrBinary) {
  EXPECT_EQ(parse_bytes("2GiB")->count, int64_t{2} << 30);
  EXPECT_EQ(parse_bytes("141GB")->count, 141000000000);
  EXPECT_EQ(parse_bytes("1.5 kib")->count, 1536);
  EXPECT_EQ(parse_bytes("4096")->count, 4096);
  for (const char* bad : {"", "GB", "-1GB", "2G", "2 GiB x", "1e30TB", "nan", "0x10"})
    EXPECT_FALSE(parse_bytes(bad)) << bad;
}

TEST(Units, TimesAddUp) {
  EXPECT_EQ(parse_duration("30min")->seconds, 1800);
  EXPECT_EQ(parse_duration("1h 30min")->seconds, 5400);
  EXPECT_EQ(parse_duration("0.5s")->seconds, 0.5);
  EXPECT_EQ(parse_duration("500ms")->seconds, 0.5);
  EXPECT_EQ(parse_duration("30", 60)->seconds, 1800);
  for (const char* bad : {"", "min", "-1s", "3 weeks", "1h30", "1e400s", "inf"})
    EXPECT_FALSE(parse_duration(bad)) << bad;
}

TEST(Units, IntegersMayBeWrittenAsNumbersThatAreWhole) {
  EXPECT_EQ(parse_integer("1e3"), 1000);
  EXPECT_EQ(parse_integer("1_000_000"), 1000000);
  EXPECT_EQ(parse_integer("-7"), -7);
  EXPECT_EQ(parse_integer("9223372036854775807"), INT64_MAX);
  for (const char* bad : {"", "1.5", "010", "0x1F", "1e30", "9223372036854775808", "1__0", "_1",
                          "12 3", "--1", "+-1"})
    EXPECT_FALSE(parse_integer(bad)) << bad;
}

TEST(Units, NumbersAreFiniteAndStrict) {
  EXPECT_EQ(parse_number("1e-4"), 1e-4);
  EXPECT_EQ(parse_number("+.5"), 0.5);
  for (const char* bad : {"", "nan", "inf", "1e999", "1,5", "1e", "0x1p3", "--1", "1.2.3"})
    EXPECT_FALSE(parse_number(bad)) << bad;
}

TEST(Units, ExactFormatsReadBack) {
  for (int64_t n : {int64_t{0}, int64_t{1}, int64_t{4096}, int64_t{1} << 31, int64_t{141000000000}})
    EXPECT_EQ(parse_bytes(format_exact(Bytes{n}))->count, n) << format_exact(Bytes{n});
  for (double s : {0.0, 0.1, 45.0, 1800.0, 5400.0, 86400.0, 90.5})
    EXPECT_EQ(parse_duration(format_exact(Duration{s}))->seconds, s);
  for (double x : {0.1, 3e-4, 1e-8, 1.5e300, -2.0, 1e-300, 123456.789})
    EXPECT_EQ(parse_number(format_exact(x)), x) << format_exact(x);
  EXPECT_EQ(format_exact(3e-4), "0.0003");
  EXPECT_EQ(format_exact(1e-8), "1e-8");
}

TEST(Units, PeopleReadRoundedValues) {
  EXPECT_EQ(human_bytes(1536), "1.50 KiB");
  EXPECT_EQ(human_bytes(12), "12 B");
  EXPECT_EQ(human_duration(3900), "1 h 05 min");
  EXPECT_EQ(human_duration(0.012), "12 ms");
  EXPECT_EQ(human_count(12345), "12.3k");
  EXPECT_EQ(human_count(134515008), "135M");
}

TEST(Nearest, FindsTheLikeliestName) {
  EXPECT_EQ(nearest("learing_rate", {"lr", "learning_rate", "rate"}), "learning_rate");
  EXPECT_EQ(nearest("seq-len", {"seed", "seq_len"}), "seq_len");
  EXPECT_EQ(edit_distance("ab", "ba"), 1u);
  EXPECT_EQ(nearest("x", {}), "");
}

}  // namespace
}  // namespace weft
