// Writes GGUF version 3, a piece of one tensor in memory at a time.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/gguf.h"
#include "checkpoint/quant_blocks.h"
#include "checkpoint/weight_source.h"

namespace weft::checkpoint {

// A weight of a source under the name, type and order of rows that the file shall have.
struct GgufPlan {
  std::string source_name;  // empty: `values`
  std::string name;
  GgmlType type = GgmlType::f32;
  int64_t rotated_head_dim = 0;  // 0: rows as they are; else as arch llama has them
  std::vector<float> values;     // a generated 1-D tensor
};

// Throws bad_data naming the weight that its type cannot hold (NaN, too large for F16), io when the
// file cannot be written whole; then nothing is under `path`.
// REQUIRES: types F32, F16, BF16, Q8_0 (rows of whole blocks).
void write_gguf(const std::string& path, const GgufMetadata& metadata, const WeightSource& source,
                const std::vector<GgufPlan>& tensors);

}  // namespace weft::checkpoint
