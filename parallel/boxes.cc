#include "parallel/boxes.h"

#include <algorithm>

#include "core/base/error.h"

namespace weft::parallel {
namespace {

// How many different parts the tensor is cut into.
int64_t parts_of(const nn::Parameter& parameter, const MeshSizes& sizes) {
  const nn::Partition& cut = parameter.partition;
  const int64_t ranks = sizes.of(cut.axis);
  if (cut.dim < 0 || ranks == 1) return 1;
  const int64_t padded = parameter.shape[cut.dim] + cut.padding;
  const int64_t parts = ranks / cut.replicas;
  if (parts * cut.replicas != ranks || padded % (parts * cut.granule) != 0)
    fail(ErrorKind::usage,
         "parallel: {} {} cannot be cut in dim {} ({} with padding) over {} ranks: pieces are "
         "multiples of {}, each held by {} ranks",
         parameter.name, parameter.shape.to_string(), cut.dim, padded, ranks, cut.granule,
         cut.replicas);
  return parts;
}

// As partition_box, with the padding: a box of memory's shape.
Box padded_box(const nn::Parameter& parameter, const MeshSizes& sizes, int rank) {
  Box box = whole(parameter.shape);
  const nn::Partition& cut = parameter.partition;
  if (cut.dim < 0) return box;
  const int64_t part = coordinate(sizes, rank, cut.axis) / cut.replicas;
  const int64_t length = partition_shape(parameter, sizes)[cut.dim];
  box.begin[cut.dim] = part * length;
  box.end[cut.dim] = (part + 1) * length;
  return box;
}

}  // namespace

Shape partition_shape(const nn::Parameter& parameter, const MeshSizes& sizes) {
  Shape shape = parameter.shape;
  const nn::Partition& cut = parameter.partition;
  if (cut.dim >= 0) shape[cut.dim] = (shape[cut.dim] + cut.padding) / parts_of(parameter, sizes);
  return shape;
}

Box partition_box(const nn::Parameter& parameter, const MeshSizes& sizes, int rank) {
  return intersect(padded_box(parameter, sizes, rank), whole(parameter.shape));
}

std::vector<Box> global_boxes(const nn::Parameter& parameter, const MeshSizes& sizes, int rank,
                              int64_t begin, int64_t count) {
  const Box held = padded_box(parameter, sizes, rank);
  std::vector<Box> out;
  for (Box box : boxes(held.shape(), begin, count)) {
    for (size_t d = 0; d < box.begin.size(); ++d) {
      box.begin[d] += held.begin[d];
      box.end[d] += held.begin[d];
    }
    box = intersect(box, whole(parameter.shape));
    if (box.numel() > 0) out.push_back(std::move(box));
  }
  return out;
}

std::vector<Box> boxes(const UnitTable& table, std::string_view name, int rank) {
  const auto [buffer, entry] = table.find(name);
  const nn::Parameter& parameter = *entry->parameter;
  const MeshSizes& sizes = table.sizes();
  if (!buffer->trainable) return global_boxes(parameter, sizes, rank, 0, entry->count);
  const int64_t shard = table.shard_numel(*buffer);
  const int64_t shard_begin = coordinate(sizes, rank, nn::Axis::data) * shard;
  const int64_t begin = std::max(shard_begin, entry->offset);
  const int64_t end = std::min(shard_begin + shard, entry->offset + entry->count);
  if (begin >= end) return {};
  return global_boxes(parameter, sizes, rank, begin - entry->offset, end - begin);
}

}  // namespace weft::parallel
