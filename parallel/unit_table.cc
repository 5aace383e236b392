#include "parallel/unit_table.h"

#include <algorithm>

#include "core/base/error.h"
#include "parallel/boxes.h"

namespace weft::parallel {

UnitTable::UnitTable(std::vector<nn::Unit> units, const MeshSizes& sizes)
    : units_(std::move(units)), sizes_(sizes) {
  CHECK(sizes.data >= 1, "sizes of a mesh that is not resolved");
  for (size_t u = 0; u < units_.size(); ++u) {
    const size_t first = buffers_.size();
    for (const nn::ParameterPtr& p : units_[u].parameters) {
      const auto alike = [&](const FlatBuffer& b) {
        return b.trainable == p->trainable && b.dtype == p->dtype;
      };
      auto buffer = std::find_if(buffers_.begin() + first, buffers_.end(), alike);
      if (buffer == buffers_.end())
        buffer = buffers_.insert(buffer, {static_cast<int>(u), p->trainable, p->dtype, {}, 0, 0});
      const std::pair<size_t, size_t> place{buffer - buffers_.begin(), buffer->entries.size()};
      CHECK(places_.emplace(p->name, place).second, "{} stands in two units", p->name);
      const Shape shape = partition_shape(*p, sizes_);
      buffer->entries.push_back({p, shape, buffer->numel, shape.numel()});
      buffer->numel += shape.numel();
    }
  }
  const int64_t step = sizes_.data * kShardAlignment;
  for (FlatBuffer& b : buffers_)
    b.padded = b.trainable ? (b.numel + step - 1) / step * step : b.numel;
}

UnitTable::Place UnitTable::find(std::string_view name) const {
  const auto it = places_.find(std::string(name));
  CHECK(it != places_.end(), "no unit has a parameter {}", name);
  const FlatBuffer& buffer = buffers_[it->second.first];
  return {&buffer, &buffer.entries[it->second.second]};
}

int64_t UnitTable::shard_numel(const FlatBuffer& buffer) const {
  CHECK(buffer.trainable, "a frozen buffer has no shards");
  return buffer.padded / sizes_.data;
}

std::vector<nn::Segment> UnitTable::segments(const FlatBuffer& buffer, int rank) const {
  const int64_t shard = shard_numel(buffer), shard_begin = rank * shard;
  std::vector<nn::Segment> segments;
  for (const FlatEntry& e : buffer.entries) {
    const int64_t begin = std::max(shard_begin, e.offset);
    const int64_t end = std::min(shard_begin + shard, e.offset + e.count);
    if (begin >= end) continue;
    nn::Segment segment;
    segment.name = e.parameter->name;
    segment.shape = e.shape;
    segment.begin = begin - e.offset;
    segment.count = end - begin;
    segment.offset = begin - shard_begin;
    segment.decay = e.parameter->decay;
    segments.push_back(std::move(segment));
  }
  return segments;
}

}  // namespace weft::parallel
