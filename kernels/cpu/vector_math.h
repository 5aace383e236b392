// Elementary functions as branchless formulas, for loops that the compiler vectorises. Without FMA,
// a table or the C library, so that every machine computes the same bits.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace weft::ops::cpu {

// e^x to 2 ulp for x in [-87, 87]; outside, what the nearer end has. (Cody & Waite's reduction and
// Cephes' polynomial on [-ln2/2, ln2/2].) Of a NaN: anything; the callers multiply it by the NaN.
inline float vector_exp(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  // Clamped as an integer: a choice between floats makes the compiler compute what follows twice.
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t magnitude = std::min(bits & 0x7fffffffu, std::bit_cast<uint32_t>(87.0f));
  x = std::bit_cast<float>(magnitude | (bits & 0x80000000u));
  const float shifted = x * 1.44269504088896341f + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = (p * (r * r) + r) + 1.0f;
  // Times 2^n: the low bits of `shifted` are n, and 2^n p is a normal number.
  return std::bit_cast<float>(std::bit_cast<uint32_t>(p) +
                              (std::bit_cast<uint32_t>(shifted) << 23));
}

// ln x of normal x > 0 to 2 ulp (Cephes).
inline float vector_log(float x) {
  const int32_t bits = std::bit_cast<int32_t>(x);
  // x = m * 2^e with m in [sqrt(1/2), sqrt(2)): 0x3f3504f3 is sqrt(1/2)
  const int32_t e_int = (bits - 0x3f3504f3) >> 23;
  const float m = std::bit_cast<float>(bits - e_int * (1 << 23));
  const float e = static_cast<float>(e_int);
  const float f = m - 1.0f;
  const float f2 = f * f;
  float p = 7.0376836292e-2f;
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const float tail = p * (f * f2) + e * -2.12194440e-4f - 0.5f * f2;
  return (f + tail) + e * 0.693359375f;
}

struct SinCos {
  float sin;
  float cos;
};
// Of the angle 2 pi u, 0 <= u < 1, to 2 ulp: the reduction to an eighth of a turn is exact.
inline SinCos vector_sincos_turns(float u) {
  const int32_t quarter = static_cast<int32_t>(u * 4.0f + 0.5f);
  const float x = (u - static_cast<float>(quarter) * 0.25f) * 6.28318530717958648f;
  const float x2 = x * x;
  float s = -1.9515295891e-4f;
  s = s * x2 + 8.3321608736e-3f;
  s = s * x2 - 1.6666654611e-1f;
  s = s * (x2 * x) + x;
  float c = 2.443315711809948e-5f;
  c = c * x2 - 1.388731625493765e-3f;
  c = c * x2 + 4.166664568298827e-2f;
  c = c * (x2 * x2) - 0.5f * x2 + 1.0f;
  const bool swap = (quarter & 1) != 0;
  const float sin_value = swap ? c : s;
  const float cos_value = swap ? s : c;
  return {(quarter & 2) ? -sin_value : sin_value, ((quarter + 1) & 2) ? -cos_value : cos_value};
}

}  // namespace weft::ops::cpu
