#include "core/nn/tape.h"

#include <gtest/gtest.h>

#include "core/ops/elementwise.h"
#include "tests/support/tensors.h"

namespace weft::nn {
namespace {

Tape::Recipe sum_of(const Tensor& a, const Tensor& b) {
  return {{a, b}, [](const std::vector<Tensor>& from) { return ops::add(from[0], from[1]); }};
}

TEST(Tape, PopsWhatWasPushedLastFirst) {
  Tape tape;
  const Tensor a = test::random_tensor({3}, DType::f32, 1);
  const Tensor b = test::random_tensor({4}, DType::f32, 2);
  tape.push(a);
  tape.push(b);
  EXPECT_EQ(tape.pop().raw(), b.raw());
  EXPECT_EQ(tape.pop().raw(), a.raw());
  EXPECT_TRUE(tape.empty());
}

TEST(Tape, OfNothingStaysEmpty) {
  Tape tape(Tape::Keep::nothing);
  tape.push(test::random_tensor({3}, DType::f32, 1));
  EXPECT_TRUE(tape.empty());
}

TEST(Tape, KeepsTheRecipeOfWhatIsCheapToMakeAgain) {
  const Tensor a = test::random_tensor({5}, DType::f32, 1);
  const Tensor b = test::random_tensor({5}, DType::f32, 2);
  for (const Tape::Keep keep : {Tape::Keep::expensive, Tape::Keep::everything}) {
    Tape tape(keep);
    const Tensor sum = ops::add(a, b);
    {
      Tape::Rebuildable cheap(tape, sum, sum_of(a, b));
      tape.push(sum);
      tape.push(a);
    }
    tape.push(sum);  // no recipe counts any more
    EXPECT_EQ(tape.pop().raw(), sum.raw());
    EXPECT_EQ(tape.pop().raw(), a.raw());
    const Tensor again = tape.pop();
    EXPECT_EQ(again.raw() == sum.raw(), keep == Tape::Keep::everything);
    EXPECT_TRUE(test::same_bytes(again, sum));
  }
}

TEST(Tape, OfAnOriginKeepsTheRecipeWhateverElseItKeeps) {
  const Tensor a = test::random_tensor({5}, DType::f32, 1);
  const Tensor b = test::random_tensor({5}, DType::f32, 2);
  for (const Tape::Keep keep : {Tape::Keep::expensive, Tape::Keep::everything}) {
    Tape tape(keep);
    const Tensor sum = ops::add(a, b);
    Tape::Rebuildable cheap(tape, sum, sum_of(a, b));
    tape.push_origin(sum);
    tape.push_origin(a);  // nothing says how it is made
    const Tape::Kept of_a = tape.pop_kept(), of_sum = tape.pop_kept();
    EXPECT_EQ(of_a.tensor().raw(), a.raw());
    EXPECT_FALSE(of_sum.pushed.defined());
    ASSERT_EQ(of_sum.recipe.from.size(), 2u);
    EXPECT_EQ(of_sum.recipe.from[1].raw(), b.raw());
    EXPECT_TRUE(test::same_bytes(of_sum.tensor(), sum));
  }
  Tape nothing(Tape::Keep::nothing);
  nothing.push_origin(a);
  EXPECT_TRUE(nothing.empty());
}

TEST(Tape, TheInnermostRecipeCounts) {
  Tape tape(Tape::Keep::expensive);
  const Tensor a = test::random_tensor({5}, DType::f32, 1);
  const Tensor b = test::random_tensor({5}, DType::f32, 2);
  Tape::Rebuildable outer(tape, a, sum_of(b, b));
  {
    Tape::Rebuildable inner(tape, b, sum_of(a, a));
    tape.push(a);
    tape.push(b);
  }
  tape.push(a);
  EXPECT_TRUE(test::same_bytes(tape.pop(), ops::add(b, b)));
  EXPECT_TRUE(test::same_bytes(tape.pop(), ops::add(a, a)));
  EXPECT_EQ(tape.pop().raw(), a.raw());
}

TEST(Tape, ShowsEveryTensorThatItOwnsAndTakesOthersInTheirPlace) {
  Tape tape(Tape::Keep::expensive);
  const Tensor a = test::random_tensor({5}, DType::f32, 1);
  const Tensor b = test::random_tensor({5}, DType::f32, 2);
  const Tensor sum = ops::add(a, b);
  {
    Tape::Rebuildable cheap(tape, sum, sum_of(a, b));
    tape.push(a);
    tape.push(sum);
    tape.push({});  // an op that has nothing to keep
  }
  std::vector<const void*> seen;
  tape.for_each([&](Tensor& t) {
    seen.push_back(t.raw());
    t = t.clone();
  });
  EXPECT_EQ(seen, (std::vector<const void*>{a.raw(), a.raw(), b.raw()}));
  EXPECT_FALSE(tape.pop().defined());
  EXPECT_TRUE(test::same_bytes(tape.pop(), sum));
  const Tensor other = tape.pop();
  EXPECT_NE(other.raw(), a.raw());
  EXPECT_TRUE(test::same_bytes(other, a));
}

}  // namespace
}  // namespace weft::nn
