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
  for (int j = 0; j < kPhiloxCalls; ++j) {
    const PhiloxCounter r = philox({c[0] + static_cast<uint32_t>(j), c[1], c[2], c[3]}, key);
    for (int k = 0; k < 4; ++k) draws[4 * j + k] = r[static_cast<size_t>(k)];
  }
}

}  // namespace weft::ops::cpu
