#include "core/base/rng.h"

#include <gtest/gtest.h>

#include <set>

namespace weft {
namespace {

// From kat_vectors of Random123 1.09 (philox4x32 10).
TEST(Philox, GivesTheKnownAnswersOfItsAuthors) {
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// Checkpoints and seeds mean what they mean because these never change.
TEST(HashName, IsFrozen) {
  EXPECT_EQ(hash_name(""), 0xf52a15e9a9b5e89bull);
  EXPECT_EQ(hash_name("a"), 0x02c0bdbf481420f8ull);
  EXPECT_EQ(hash_name("model.embed_tokens.weight"), 0x1acb025cf390dc05ull);
  EXPECT_EQ(hash_name("model.layers.3.self_attn.q_proj.weight"), 0x01eaa0c208e9c598ull);
}

TEST(Mix, IsFrozenAndItsArgumentsAreNotInterchangeable) {
  EXPECT_EQ(mix(42, 0x1acb025cf390dc05ull), 0xb981a5de772d5c4eull);
  EXPECT_NE(mix(1, 2), mix(2, 1));
  std::set<uint64_t> seen;
  for (uint64_t a = 0; a < 100; ++a)
    for (uint64_t b = 0; b < 100; ++b) seen.insert(mix(a, b));
  EXPECT_EQ(seen.size(), 10000u);
}

TEST(ToUnitFloat, CoversZeroToJustBelowOne) {
  EXPECT_EQ(to_unit_float(0), 0.0f);
  EXPECT_EQ(to_unit_float(0xffffffff), 1.0f - 0x1p-24f);
  EXPECT_EQ(to_unit_float(0x80000000), 0.5f);
}

}  // namespace
}  // namespace weft
