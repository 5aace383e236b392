// Boxes of global tensors: the one description of who holds what. Checkpoints, ZeRO, export and
// planner use it.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/nn/parameter.h"
#include "parallel/mesh.h"
#include "parallel/unit_table.h"

namespace weft::parallel {

// begin[d] <= index[d] < end[d], for each dim of a tensor; no dims: its one element.
struct Box {
  std::vector<int64_t> begin, end;
  int64_t numel() const;
  Shape shape() const;
  bool operator==(const Box&) const = default;
};

Box whole(const Shape& shape);
Box intersect(const Box& a, const Box& b);  // numel 0 when they do not meet

// Elements [begin, begin + count) of the flattened tensor, as the fewest boxes, in order: laid end
// to end, row-major each, they are the range. At most 2 * rank - 1; three for a matrix.
std::vector<Box> boxes(const Shape& shape, int64_t begin, int64_t count);

// The part of the parameter that a rank of the tensor (or expert) axis holds, without padding: what
// `partition` says. Throws Error{usage} when the granules do not divide among the ranks.
Box partition_box(const nn::Parameter& parameter, const MeshSizes& sizes, int rank);
// Its shape in memory, padding included.
Shape partition_shape(const nn::Parameter& parameter, const MeshSizes& sizes);

// What `rank` of the mesh owns of the parameter, joining partition, unit table and shard ranges:
// its shard of a trainable parameter, its whole part of a frozen one. In global indices, in the
// order of the shard's memory.
std::vector<Box> boxes(const UnitTable& table, std::string_view name, const MeshSizes& sizes,
                       int rank);

// Elements that a stored and a wanted piece of one tensor share, as runs that are contiguous in
// both.
struct CopyRun {
  int64_t source = 0;       // element offset in the stored piece
  int64_t destination = 0;  // element offset in the wanted piece
  int64_t count = 0;
  bool operator==(const CopyRun&) const = default;
};
// Row-major box to row-major box.
std::vector<CopyRun> copy_runs(const Box& stored, const Box& wanted);
// Row-major box to elements [begin, begin + count) of the flattened tensor.
std::vector<CopyRun> copy_runs(const Box& stored, const Shape& shape, int64_t begin, int64_t count);

}  // namespace weft::parallel
