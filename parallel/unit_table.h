// Where each parameter lies in the flat buffers of its unit, and which part of them each
// data-parallel rank owns. A pure function of the blueprint and the mesh's sizes: nothing is in
// memory.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/nn/parameter.h"
#include "core/nn/shard.h"
#include "parallel/mesh.h"

namespace weft::parallel {

// Shards begin at a multiple of this many elements.
inline constexpr int64_t kShardAlignment = 16;

struct FlatEntry {
  nn::ParameterPtr parameter;
  Shape shape;         // as the tensor axis cuts it
  int64_t offset = 0;  // elements; a unit's parameters follow each other without gaps
  int64_t count = 0;
};

// All parameters of one unit that are alike in (trainable, dtype), in the unit's order.
struct FlatBuffer {
  int unit = 0;
  bool trainable = true;
  DType dtype = DType::f32;
  std::vector<FlatEntry> entries;
  int64_t numel = 0;   // of the parameters
  int64_t padded = 0;  // trainable: up to a multiple of data ranks * kShardAlignment; frozen: numel
};

class UnitTable {
 public:
  // A parameter stands in one unit only (a tied weight too); a second listing is an internal error.
  UnitTable(std::vector<nn::Unit> units, const MeshSizes& sizes);

  const std::vector<nn::Unit>& units() const { return units_; }
  const std::vector<FlatBuffer>& buffers() const { return buffers_; }  // in order of units
  const MeshSizes& sizes() const { return sizes_; }

  struct Place {
    const FlatBuffer* buffer;
    const FlatEntry* entry;
  };
  Place find(std::string_view name) const;  // throws Error{internal} when no unit has it

  int64_t shard_numel(const FlatBuffer& buffer) const;  // trainable: padded / data ranks
  // What data rank `rank` owns of a trainable buffer, as segments of its shard.
  std::vector<nn::Segment> segments(const FlatBuffer& buffer, int rank) const;

 private:
  std::vector<nn::Unit> units_;
  MeshSizes sizes_;
  std::vector<FlatBuffer> buffers_;
  std::unordered_map<std::string, std::pair<size_t, size_t>> places_;  // buffer, entry
};

}  // namespace weft::parallel
