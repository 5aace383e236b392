// What a rank hands to a checkpoint: pieces of global tensors.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor/tensor.h"

namespace weft::checkpoint {

// The elements begin[d] <= i_d < end[d] of a global tensor.
struct Box {
  std::vector<int64_t> begin;
  std::vector<int64_t> end;

  int rank() const { return static_cast<int>(begin.size()); }
  int64_t extent(int dim) const { return end[dim] - begin[dim]; }
  int64_t numel() const;
  bool operator==(const Box&) const = default;
};

Box whole(const Shape& shape);
bool overlap(const Box& a, const Box& b);
Box intersect(const Box& a, const Box& b);  // REQUIRES overlap(a, b)

// The flat range [begin, begin + count) of a row-major tensor as boxes in flat order, each of them
// contiguous in it: at most three for a matrix. Bad ranges CHECK.
std::vector<Box> boxes_of_range(const Shape& shape, int64_t begin, int64_t count);

// A box of the global tensor `name`; `value` holds its elements in row-major order, on the CPU.
// Pieces of one (kind, name) over all ranks are disjoint and cover the tensor.
struct Piece {
  std::string kind;  // "value", "master", "m", "v"
  std::string name;  // the parameter's only name
  Shape shape;       // global
  Box box;
  Tensor value;

  size_t bytes() const { return value.bytes(); }
};

// A tensor of one rank given as a flat range of the global one: element i of `value` is element
// begin + i.
struct RangeOf {
  std::string kind;
  std::string name;
  Shape shape;  // global
  int64_t begin = 0;
  Tensor value;
};

// Appends the range as pieces (views of `value`). An empty range appends nothing.
void append(std::vector<Piece>& pieces, const RangeOf& range);

}  // namespace weft::checkpoint
