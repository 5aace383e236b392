// The element types of GGUF files and their blocks: 32 weights that share a scale.
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft::checkpoint {

// Numbers on disk; they never change.
enum class GgmlType : uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q8_0 = 8,
  bf16 = 30,
};

struct BlockLayout {
  const char* name = nullptr;  // nullptr: no such type
  int64_t elements = 0;        // a block
  int64_t bytes = 0;           // a block
};

// Known for every type of llama.cpp, readable or not, so that sizes can be checked.
BlockLayout block_layout(uint32_t ggml_type);
bool can_read(uint32_t ggml_type);  // one of GgmlType

// Decodes elements [begin, begin + count) of a row of blocks. REQUIRES: q4_0, q4_1 or q8_0.
void dequantize(GgmlType type, const std::byte* blocks, int64_t begin, int64_t count, float* out);

// Bit for bit llama.cpp's reference: d = absmax / 127 stored as f16, q = round half away from zero.
// Returns false, with `out` unspecified, when a value is not finite or a scale does not fit f16.
// REQUIRES: count is a multiple of 32; `out` holds count / 32 * 34 bytes.
bool quantize_q8_0(const float* values, int64_t count, std::byte* out);

}  // namespace weft::checkpoint
