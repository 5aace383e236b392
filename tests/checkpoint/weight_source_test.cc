#include "checkpoint/weight_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/support/errors.h"
#include "tests/support/model_bytes.h"

namespace weft::checkpoint {
namespace {

using test::error_of;
using testing::HasSubstr;
using testing::Not;

MemoryWeights source_of(const std::vector<ExpectedWeight>& weights) {
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const auto& [name, shape] : weights)
    tensors.emplace_back(name, Tensor::zeros(shape, DType::f32));
  return MemoryWeights(std::move(tensors));
}

TEST(CheckShapes, AcceptsAFitAndHarmlessExtras) {
  EXPECT_NO_THROW(check_shapes(source_of({{"a", {2, 3}}}), {{"a", {2, 3}}}));
  EXPECT_NO_THROW(check_shapes(source_of({{"a", {2}},
                                          {"lm_head.weight", {4, 2}},
                                          {"model.layers.0.self_attn.rotary_emb.inv_freq", {4}}}),
                               {{"a", {2}}}));
}

TEST(CheckShapes, ListsEverythingThatIsWrongInOneError) {
  const std::string what = error_of(ErrorKind::bad_data, [] {
    check_shapes(source_of({{"a", {2, 3}}, {"odd", {1}}}), {{"a", {3, 2}}, {"b", {7}}});
  });
  EXPECT_THAT(what, HasSubstr("missing (1)"));
  EXPECT_THAT(what, HasSubstr("b [7]"));
  EXPECT_THAT(what, HasSubstr("odd [1]"));
  EXPECT_THAT(what, HasSubstr("the file has [2, 3], the config asks for [3, 2]"));
}

TEST(CheckShapes, ShortensLongLists) {
  std::vector<ExpectedWeight> expected;
  for (int i = 0; i < 30; ++i) expected.push_back({"w" + std::to_string(i), {1}});
  const std::string what =
      error_of(ErrorKind::bad_data, [&] { check_shapes(source_of({}), expected); });
  EXPECT_THAT(what, HasSubstr("missing (30)"));
  EXPECT_THAT(what, HasSubstr("and 25 more"));
  EXPECT_THAT(what, Not(HasSubstr("w7")));
}

TEST(MemoryWeights, RefuseADuplicate) {
  EXPECT_THAT(error_of(ErrorKind::bad_data,
                       [] {
                         source_of({{"a", {1}}, {"a", {1}}});
                       }),
              HasSubstr("'a'"));
}

}  // namespace
}  // namespace weft::checkpoint
