// Sixteen Philox calls at once, as loops over calls that the compiler vectorises.
#pragma once

#include <cstdint>

#include "core/base/rng.h"

namespace weft::ops::cpu {

constexpr int kPhiloxCalls = 16;
constexpr int kPhiloxDraws = 4 * kPhiloxCalls;

// draws[4 * j + k] = philox({c[0] + j, c[1], c[2], c[3]}, key)[k]. REQUIRES: c[0] is a multiple of
// kPhiloxCalls, so that c[0] + j does not wrap.
inline void philox_block(PhiloxCounter c, PhiloxKey key, uint32_t* draws) {
  uint32_t word[4][kPhiloxCalls];
  for (int j = 0; j < kPhiloxCalls; ++j) word[0][j] = c[0] + static_cast<uint32_t>(j);
  for (int k = 1; k < 4; ++k)
    for (int j = 0; j < kPhiloxCalls; ++j) word[k][j] = c[k];
  for (int round = 0; round < 10; ++round) {
    for (int j = 0; j < kPhiloxCalls; ++j) {
      const uint64_t p0 = uint64_t{0xD2511F53u} * word[0][j];
      const uint64_t p1 = uint64_t{0xCD9E8D57u} * word[2][j];
      word[0][j] = static_cast<uint32_t>(p1 >> 32) ^ word[1][j] ^ key[0];
      word[1][j] = static_cast<uint32_t>(p1);
      word[2][j] = static_cast<uint32_t>(p0 >> 32) ^ word[3][j] ^ key[1];
      word[3][j] = static_cast<uint32_t>(p0);
    }
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  for (int j = 0; j < kPhiloxCalls; ++j)
    for (int k = 0; k < 4; ++k) draws[4 * j + k] = word[k][j];
}

}  // namespace weft::ops::cpu
