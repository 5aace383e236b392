// f16 to float and back without branches, for loops that the compiler vectorises; the same bits as
// core/tensor/dtype.cc.
#pragma once

#include <bit>
#include <cstdint>

#include "core/tensor/dtype.h"

namespace weft::ops::cpu {

inline float to_float(float x) {
  return x;
}
inline float to_float(bf16 x) {
  return static_cast<float>(x);
}
inline float to_float(f16 x) {
  const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fffu) << 13;
  // 2^112 moves the exponent's bias and makes subnormals normal.
  const uint32_t finite = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
  const uint32_t special = magnitude | 0x7f800000u;
  const uint32_t bits = magnitude >= (0x7c00u << 13) ? special : finite;
  return std::bit_cast<float>(bits | static_cast<uint32_t>(x.bits & 0x8000u) << 16);
}

template <class T>
inline T from_float(float x) {
  return static_cast<T>(x);
}
template <>
inline f16 from_float<f16>(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  const uint32_t magnitude = u & 0x7fffffffu;
  const uint32_t nan = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  const uint32_t subnormal =
      std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13;
  uint32_t bits = magnitude < 0x38800000u ? subnormal : normal;
  bits = magnitude >= 0x477ff000u ? 0x7c00u : bits;  // rounds to 65520 or more
  bits = magnitude > 0x7f800000u ? nan : bits;
  f16 result;
  result.bits = static_cast<uint16_t>(bits | ((u >> 16) & 0x8000u));
  return result;
}

}  // namespace weft::ops::cpu
