// What a rank hands to a checkpoint: pieces of global tensors.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor/tensor.h"
#include "parallel/box.h"

namespace weft::checkpoint {

using parallel::Box;

// A box of the global tensor `name`; `value` holds its elements in row-major order, on the CPU.
// Pieces of one (kind, name) over all ranks are disjoint and cover the tensor.
struct Piece {
  std::string kind;  // "value", "master", "m", "v"
  std::string name;  // the parameter's only name
  Shape shape;       // global
  Box box;
  Tensor value;
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

// Copies of the values, so that training may go on while the pieces are written.
std::vector<Piece> snapshot(const std::vector<Piece>& pieces);

}  // namespace weft::checkpoint
