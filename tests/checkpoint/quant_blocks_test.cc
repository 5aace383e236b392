#include "checkpoint/quant_blocks.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <vector>

#include "core/base/error.h"
#include "tests/support/model_bytes.h"
#include "tests/support/test_data.h"

namespace weft::checkpoint {
namespace {

// What gguf-py made of `values` in one format.
struct Golden {
  std::string blocks;
  std::vector<float> decoded;
};

struct Goldens {
  std::vector<float> values;
  Golden q8_0, q4_0, q4_1;
};

Goldens goldens() {
  const std::string file = test::read_file(test::fixture("formats/blocks.bin"));
  size_t at = 0;
  const auto take = [&](void* to, size_t size) {
    if (at + size > file.size()) throw std::runtime_error("blocks.bin is short");
    std::memcpy(to, file.data() + at, size);
    at += size;
  };
  Goldens out;
  uint64_t size = 0;
  take(&size, 8);
  out.values.resize(size);
  take(out.values.data(), size * 4);
  for (Golden* golden : {&out.q8_0, &out.q4_0, &out.q4_1}) {
    take(&size, 8);
    golden->blocks.resize(size);
    take(golden->blocks.data(), size);
    golden->decoded.resize(out.values.size());
    take(golden->decoded.data(), golden->decoded.size() * 4);
  }
  return out;
}

const std::byte* data_of(const std::string& text) {
  return reinterpret_cast<const std::byte*>(text.data());
}

void expect_decoded(GgmlType type, const Golden& golden) {
  std::vector<float> out(golden.decoded.size());
  dequantize(type, data_of(golden.blocks), 0, static_cast<int64_t>(out.size()), out.data());
  EXPECT_EQ(out, golden.decoded);
}

TEST(QuantBlocks, DecodeAsGgufPyDoes) {
  const Goldens golden = goldens();
  expect_decoded(GgmlType::q8_0, golden.q8_0);
  expect_decoded(GgmlType::q4_0, golden.q4_0);
  expect_decoded(GgmlType::q4_1, golden.q4_1);
}

TEST(QuantBlocks, DecodeAnyRange) {
  const Goldens golden = goldens();
  for (const auto& [begin, count] : std::vector<std::pair<int, int>>{
           {0, 1}, {31, 2}, {5, 20}, {16, 64}, {33, 30}, {63, 1}, {64, 0}}) {
    std::vector<float> out(static_cast<size_t>(count));
    dequantize(GgmlType::q4_1, data_of(golden.q4_1.blocks), begin, count, out.data());
    EXPECT_EQ(out, std::vector<float>(golden.q4_1.decoded.begin() + begin,
                                      golden.q4_1.decoded.begin() + begin + count));
  }
}

TEST(QuantBlocks, Q8IsTheReferenceBitForBit) {
  const Goldens golden = goldens();
  std::string out(golden.q8_0.blocks.size(), '\0');
  ASSERT_TRUE(quantize_q8_0(golden.values.data(), static_cast<int64_t>(golden.values.size()),
                            reinterpret_cast<std::byte*>(out.data())));
  EXPECT_EQ(out, golden.q8_0.blocks);
}

TEST(QuantBlocks, Q8RefusesWhatItCannotHold) {
  std::byte out[34];
  for (float value : {std::numeric_limits<float>::infinity(),
                      std::numeric_limits<float>::quiet_NaN(), 127 * 66000.0f}) {
    std::vector<float> values(32, 1.0f);
    values[17] = value;
    EXPECT_FALSE(quantize_q8_0(values.data(), 32, out)) << value;
  }
}

TEST(QuantBlocks, Q8OfTheSmallestFloatsIsZeros) {
  std::vector<float> values(32, std::numeric_limits<float>::denorm_min());
  std::byte out[34];
  ASSERT_TRUE(quantize_q8_0(values.data(), 32, out));
  for (std::byte byte : out) EXPECT_EQ(byte, std::byte{0});
}

TEST(QuantBlocks, EveryTypeOfTheFormatHasASizeAndSixAreRead) {
  int read = 0;
  for (uint32_t type = 0; type < 64; ++type) {
    if (!can_read(type)) continue;
    ++read;
    EXPECT_NE(block_layout(type).name, nullptr);
  }
  EXPECT_EQ(read, 6);
  EXPECT_STREQ(block_layout(14).name, "Q6_K");
  EXPECT_EQ(block_layout(4).name, nullptr);
  EXPECT_EQ(block_layout(UINT32_MAX).name, nullptr);
}

}  // namespace
}  // namespace weft::checkpoint
