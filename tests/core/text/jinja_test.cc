#include "core/text/jinja.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/core/text/jinja_reference.h"
#include "tests/support/test_data.h"

namespace weft::text {
namespace {

void expect_equal_to_python(const std::string& path) {
  const test::ReferenceCases all = test::read_cases(path);
  int wrong = 0;
  for (const Json& one : all.cases) {
    const std::string difference = test::difference_of_case(one, all.header.at("variables"));
    if (difference.empty() || ++wrong > 25) continue;
    ADD_FAILURE() << one.at("source").as_string() << "\n" << difference;
  }
  EXPECT_EQ(wrong, 0) << "of " << all.cases.size();
}

// More of them: tests/fixtures/chat/fuzz.py --count 100000 > cases.jsonl,
// WEFT_JINJA_CASES=cases.jsonl
TEST(JinjaReference, RandomTemplatesRenderAsInPython) {
  const char* path = std::getenv("WEFT_JINJA_CASES");
  expect_equal_to_python(path ? path : weft::test::fixture("chat/fuzz.jsonl"));
}

}  // namespace
}  // namespace weft::text
