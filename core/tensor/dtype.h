// Element types of tensors and the two 16-bit float formats.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace weft {

enum class DType : uint8_t { f32, bf16, f16, f64, i32, i64, u8 };

size_t size_of(DType dtype);              // bytes of an element
const char* name_of(DType dtype);         // "f32", "bf16", ...
DType dtype_from(std::string_view name);  // also "fp32", "float32", "bfloat16"...; throws usage

// bfloat16: the upper half of a float; rounds to nearest even, NaN stays NaN.
struct bf16 {
  uint16_t bits = 0;
  bf16() = default;
  explicit bf16(float value) {
    const uint32_t u = std::bit_cast<uint32_t>(value);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    bits = static_cast<uint16_t>(nan ? (u >> 16) | 0x40u : rounded);
  }
  explicit operator float() const {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }
  bool operator==(const bf16&) const = default;
};

// IEEE half precision, for files (GGUF, safetensors) and, later, GPUs without bf16.
struct f16 {
  uint16_t bits = 0;
  f16() = default;
  explicit f16(float value);  // rounds to nearest even, overflows to infinity
  explicit operator float() const;
  bool operator==(const f16&) const = default;
};

template <class T>
struct dtype_of;
template <>
struct dtype_of<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct dtype_of<bf16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct dtype_of<f16> {
  static constexpr DType value = DType::f16;
};
template <>
struct dtype_of<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct dtype_of<int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct dtype_of<int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct dtype_of<uint8_t> {
  static constexpr DType value = DType::u8;
};

}  // namespace weft
