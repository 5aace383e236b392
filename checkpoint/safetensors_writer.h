// Writes weights as safetensors, a piece of one tensor in memory at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/weight_source.h"

namespace weft::checkpoint {

// A weight of a source, under the name and dtype that the file shall have.
struct SafetensorsPlan {
  std::string source_name;
  std::string name;
  DType dtype = DType::f32;
};

// One file. Throws io when it cannot be written whole; then nothing is under `path`.
void write_safetensors(const std::string& path, const WeightSource& source,
                       std::vector<SafetensorsPlan> tensors);

inline constexpr int64_t kMaxShardBytes = 5'000'000'000;  // Hugging Face's own limit

// model.safetensors, or, when the tensors are larger than `max_shard_bytes` together,
// model-00001-of-0000N.safetensors (in the order of `tensors`) with model.safetensors.index.json.
void write_safetensors_folder(const std::string& folder, const WeightSource& source,
                              const std::vector<SafetensorsPlan>& tensors,
                              int64_t max_shard_bytes = kMaxShardBytes);

}  // namespace weft::checkpoint
