#include "checkpoint/quant_blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/base/error.h"
#include "core/tensor/dtype.h"

namespace weft::checkpoint {
namespace {

constexpr int64_t kBlock = 32;

float load_f16(const std::byte* data) {
  f16 value;
  std::memcpy(&value, data, sizeof(value));
  return static_cast<float>(value);
}

// Each decoder fills all 32 elements of one block. In the 4-bit types byte j of qs holds element j
// in its low nibble and element j + 16 in its high one.
void decode_q4_0(const std::byte* block, float* out) {
  const float d = load_f16(block);
  const auto* qs = reinterpret_cast<const uint8_t*>(block + 2);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>((qs[j] & 15) - 8);
    out[j + 16] = d * static_cast<float>((qs[j] >> 4) - 8);
  }
}

void decode_q4_1(const std::byte* block, float* out) {
  const float d = load_f16(block), m = load_f16(block + 2);
  const auto* qs = reinterpret_cast<const uint8_t*>(block + 4);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(qs[j] & 15) + m;
    out[j + 16] = d * static_cast<float>(qs[j] >> 4) + m;
  }
}

void decode_q8_0(const std::byte* block, float* out) {
  const float d = load_f16(block);
  const auto* qs = reinterpret_cast<const int8_t*>(block + 2);
  for (int j = 0; j < kBlock; ++j) out[j] = d * static_cast<float>(qs[j]);
}

using Decoder = void (*)(const std::byte*, float*);

Decoder decoder_of(GgmlType type) {
  if (type == GgmlType::q4_0) return decode_q4_0;
  if (type == GgmlType::q4_1) return decode_q4_1;
  CHECK(type == GgmlType::q8_0, "type {} has no blocks", static_cast<uint32_t>(type));
  return decode_q8_0;
}

bool quantize_block(const float* values, std::byte* out) {
  float absmax = 0;
  for (int j = 0; j < kBlock; ++j) {
    if (!std::isfinite(values[j])) return false;
    absmax = std::max(absmax, std::abs(values[j]));
  }
  const float d = absmax / 127.0f;
  const float inverse = d != 0 ? 1.0f / d : 0.0f;
  const f16 stored(d);
  // A scale below half the smallest subnormal is stored as 0 and the block decodes to zeros; its
  // inverse may be infinite, so that the quotients must not be rounded to integers.
  if (!std::isfinite(static_cast<float>(stored))) return false;
  std::memcpy(out, &stored, sizeof(stored));
  auto* qs = reinterpret_cast<int8_t*>(out + 2);
  for (int j = 0; j < kBlock; ++j) {
    const float q = std::isfinite(inverse) ? std::round(values[j] * inverse) : 0.0f;
    qs[j] = static_cast<int8_t>(q);
  }
  return true;
}

// Numbers on disk.
constexpr std::pair<uint32_t, BlockLayout> kLayouts[] = {
    {0, {"F32", 1, 4}},         {1, {"F16", 1, 2}},         {2, {"Q4_0", 32, 18}},
    {3, {"Q4_1", 32, 20}},      {6, {"Q5_0", 32, 22}},      {7, {"Q5_1", 32, 24}},
    {8, {"Q8_0", 32, 34}},      {9, {"Q8_1", 32, 40}},      {10, {"Q2_K", 256, 84}},
    {11, {"Q3_K", 256, 110}},   {12, {"Q4_K", 256, 144}},   {13, {"Q5_K", 256, 176}},
    {14, {"Q6_K", 256, 210}},   {15, {"Q8_K", 256, 292}},   {16, {"IQ2_XXS", 256, 66}},
    {17, {"IQ2_XS", 256, 74}},  {18, {"IQ3_XXS", 256, 98}}, {19, {"IQ1_S", 256, 50}},
    {20, {"IQ4_NL", 32, 18}},   {21, {"IQ3_S", 256, 110}},  {22, {"IQ2_S", 256, 82}},
    {23, {"IQ4_XS", 256, 136}}, {24, {"I8", 1, 1}},         {25, {"I16", 1, 2}},
    {26, {"I32", 1, 4}},        {27, {"I64", 1, 8}},        {28, {"F64", 1, 8}},
    {29, {"IQ1_M", 256, 56}},   {30, {"BF16", 1, 2}},       {34, {"TQ1_0", 256, 54}},
    {35, {"TQ2_0", 256, 66}},   {39, {"MXFP4", 32, 17}},    {40, {"NVFP4", 64, 36}},
    {41, {"Q1_0", 128, 18}},
};

}  // namespace

BlockLayout block_layout(uint32_t ggml_type) {
  for (const auto& [type, layout] : kLayouts)
    if (type == ggml_type) return layout;
  return {};
}

bool can_read(uint32_t ggml_type) {
  switch (static_cast<GgmlType>(ggml_type)) {
    case GgmlType::f32:
    case GgmlType::f16:
    case GgmlType::q4_0:
    case GgmlType::q4_1:
    case GgmlType::q8_0:
    case GgmlType::bf16:
      return true;
  }
  return false;
}

void dequantize(GgmlType type, const std::byte* blocks, int64_t begin, int64_t count, float* out) {
  const Decoder decode = decoder_of(type);
  const int64_t bytes = block_layout(static_cast<uint32_t>(type)).bytes;
  float block[kBlock];
  while (count > 0) {
    const int64_t skip = begin % kBlock, take = std::min(kBlock - skip, count);
    decode(blocks + begin / kBlock * bytes, block);
    std::copy_n(block + skip, take, out);
    begin += take, out += take, count -= take;
  }
}

bool quantize_q8_0(const float* values, int64_t count, std::byte* out) {
  CHECK(count % kBlock == 0, "{} is not a multiple of 32", count);
  for (int64_t i = 0; i < count; i += kBlock, out += 34)
    if (!quantize_block(values + i, out)) return false;
  return true;
}

}  // namespace weft::checkpoint
