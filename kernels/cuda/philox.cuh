// The random numbers of core/base/rng.h on a GPU: the same bits.
#pragma once

#include "core/base/rng.h"
#include "kernels/cuda/cuda.cuh"

namespace weft::ops::cuda {

// Keys travel to kernels in this; draws come back in uint4.
struct Key {
  uint32_t low, high;
};
inline Key key_of(uint64_t key) {
  const PhiloxKey k = philox_key(key);
  return {k[0], k[1]};
}

__device__ inline uint4 philox(uint4 c, Key k) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c.x;
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * c.z;
    c = make_uint4(static_cast<uint32_t>(p1 >> 32) ^ c.y ^ k.low, static_cast<uint32_t>(p1),
                   static_cast<uint32_t>(p0 >> 32) ^ c.w ^ k.high, static_cast<uint32_t>(p0));
    k.low += 0x9E3779B9u;
    k.high += 0xBB67AE85u;
  }
  return c;
}

__device__ inline float unit_float(uint32_t bits) {
  return __uint2float_rn(bits >> 8) * 0x1p-24f;  // exact
}

}  // namespace weft::ops::cuda
