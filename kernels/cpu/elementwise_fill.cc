// Random fills of core/ops/elementwise.h: blocks of 64 elements of the global index, so that any
// piece of a tensor gets what the whole would.
#include <cmath>

#include "core/ops/elementwise.h"
#include "kernels/cpu/philox_block.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/cpu/vectorised.h"

namespace weft::ops::cpu {
namespace {

// Box-Muller. The radius takes all 32 bits of its draw, so the tail reaches 6.7.
inline void normals_of(const uint32_t* draws, float mean, float std, float* values) {
  float sin[kPhiloxDraws / 2], cos[kPhiloxDraws / 2];
  each(kPhiloxDraws / 2, [&](int64_t i) {
    const float u = static_cast<float>(draws[2 * i]) * 0x1p-32f + 0x1p-33f;  // in (0, 1]
    const float radius = std::sqrt(-2.0f * vector_log(u));
    const SinCos angle = vector_sincos_turns(to_unit_float(draws[2 * i + 1]));
    cos[i] = mean + std * (radius * angle.cos);
    sin[i] = mean + std * (radius * angle.sin);
  });
  for (int i = 0; i < kPhiloxDraws / 2; ++i) {
    values[2 * i] = cos[i];
    values[2 * i + 1] = sin[i];
  }
}

inline void uniforms_of(const uint32_t* draws, float low, float range, float* values) {
  each(kPhiloxDraws, [=](int64_t i) { values[i] = low + range * to_unit_float(draws[i]); });
}

// x[i] = element first_index + i of the blocks that block_values(draws, values) makes.
template <class BlockValues>
void fill_blocks(const Tensor& x, int64_t first_index, PhiloxKey key,
                 const BlockValues& block_values) {
  if (x.numel() == 0) return;
  const int64_t end_index = first_index + x.numel();
  const int64_t first_block = first_index / kPhiloxDraws;
  const int64_t num_blocks = (end_index - 1) / kPhiloxDraws + 1 - first_block;
  const auto fill_block = [=](uint64_t block, auto* px) {
    uint32_t draws[kPhiloxDraws];
    float values[kPhiloxDraws];
    const uint64_t counter = block * kPhiloxCalls;
    philox_block({static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0, 0}, key,
                 draws);
    block_values(draws, values);
    const int64_t block_begin = static_cast<int64_t>(block) * kPhiloxDraws;
    const int64_t begin = std::max(first_index, block_begin);
    const int64_t end = std::min(end_index, block_begin + kPhiloxDraws);
    for (int64_t i = begin; i < end; ++i)
      px[i - first_index] =
          static_cast<std::remove_reference_t<decltype(*px)>>(values[i - block_begin]);
  };
  with_float_type(x.dtype(), [&](auto type) {
    auto* px = x.data<decltype(type)>();
    parallel_vectorised(num_blocks, 8 * kPhiloxDraws, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block)
        fill_block(static_cast<uint64_t>(first_block + block), px);
    });
  });
}

PhiloxKey key_of(uint64_t seed, std::string_view name) {
  return philox_key(mix(seed, hash_name(name)));
}

}  // namespace

void fill_normal(const Tensor& x, const NormalFill& fill) {
  fill_blocks(x, fill.first_index, key_of(fill.seed, fill.name),
              [mean = fill.mean, std = fill.std](const uint32_t* draws, float* values) {
                normals_of(draws, mean, std, values);
              });
}

void fill_uniform(const Tensor& x, const UniformFill& fill) {
  fill_blocks(x, fill.first_index, key_of(fill.seed, fill.name),
              [low = fill.low, range = fill.high - fill.low](const uint32_t* draws, float* values) {
                uniforms_of(draws, low, range, values);
              });
}

}  // namespace weft::ops::cpu
