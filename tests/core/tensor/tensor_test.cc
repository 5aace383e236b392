#include "core/tensor/tensor.h"

#include <gtest/gtest.h>

#include <cmath>

namespace weft {
namespace {

TEST(Bf16, EveryValueRoundTripsAndRoundsToNearestEven) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    bf16 value;
    value.bits = static_cast<uint16_t>(bits);
    const float wide = static_cast<float>(value);
    if (std::isnan(wide)) {
      EXPECT_TRUE(std::isnan(static_cast<float>(bf16(wide))));
    } else {
      EXPECT_EQ(bf16(wide).bits, bits);
    }
  }
  EXPECT_EQ(static_cast<float>(bf16(1.0f + 0x1p-8f)), 1.0f);                // tie to even
  EXPECT_EQ(static_cast<float>(bf16(1.0f + 3 * 0x1p-8f)), 1.0f + 0x1p-6f);  // tie to even, upwards
}

TEST(F16, EveryValueRoundTripsAndAgreesWithTheCompiler) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    f16 value;
    value.bits = static_cast<uint16_t>(bits);
    const float wide = static_cast<float>(value);
    if (!std::isnan(wide)) {
      EXPECT_EQ(f16(wide).bits, bits);
    }
  }
  EXPECT_EQ(f16(65519.0f).bits, 0x7bff);
  EXPECT_EQ(f16(65520.0f).bits, 0x7c00);
  EXPECT_EQ(f16(0x1p-25f).bits, 0);
  EXPECT_EQ(f16(0x1.8p-25f).bits, 1);
}

TEST(Tensor, ViewsShareStorage) {
  Tensor t = Tensor::zeros({3, 4}, DType::f32);
  t.rows(1, 2).data<float>()[2] = 5;
  EXPECT_EQ(t.data<float>()[6], 5);
  EXPECT_EQ(t.reshape({12}).flat(6, {1}).data<float>()[0], 5);
  EXPECT_THROW(t.data<bf16>(), Error);
}

TEST(Shape, RefusesProductsThatWrap) {
  EXPECT_THROW(Shape({int64_t{1} << 40, int64_t{1} << 40}).numel(), Error);
  EXPECT_THROW(Shape({-1}), Error);
}

}  // namespace
}  // namespace weft
