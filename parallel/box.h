// Boxes: parts of a tensor by a range in each dim. Geometry only.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor/shape.h"

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
