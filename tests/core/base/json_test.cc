#include "core/base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/support/errors.h"

namespace weft {
namespace {

using ::testing::HasSubstr;

TEST(Json, KeepsTheOrderOfKeysAndRoundTrips) {
  const std::string text = R"({"b": 1, "a": [true, null, 1.5, "h\u00e9\n"], "c": {}})";
  EXPECT_EQ(Json::parse(text, "test").dump(),
            R"({"b": 1, "a": [true, null, 1.5, "hé\n"], "c": {}})");
}

TEST(Json, NamesThePlaceOfASyntaxError) {
  EXPECT_THAT(test::error_of(ErrorKind::bad_data, [] { Json::parse("{\n  \"a\": }", "x.json"); }),
              HasSubstr("x.json: not valid JSON at line 2"));
}

TEST(Json, RefusesDuplicateKeysAndDepth) {
  EXPECT_THROW(Json::parse(R"({"a": 1, "a": 2})", "x"), Error);
  EXPECT_THROW(Json::parse(std::string(1000, '['), "x"), Error);
}

TEST(Json, WrongTypesAreBadData) {
  EXPECT_THROW(Json(1).as_string(), Error);
  EXPECT_THROW(Json("x").at("y"), Error);
  EXPECT_EQ(Json(3).as_double(), 3.0);
}

}  // namespace
}  // namespace weft
