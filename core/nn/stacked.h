// Matrices of a projection's members as one, for projection.cc and projection_adapters.cc.
#pragma once

#include <vector>

#include "core/tensor/tensor.h"

namespace weft::nn {

// The members' matrices as one, where they lie next to each other in memory with the same dtype:
// the unit's flat buffer sees to that for the members of a projection. Otherwise an undefined
// tensor.
inline Tensor stacked(const std::vector<Tensor>& parts) {
  if (!parts[0].defined()) return {};
  int64_t rows = 0;
  const char* expected = static_cast<const char*>(parts[0].raw());
  for (const Tensor& part : parts) {
    if (part.raw() != expected || part.dtype() != parts[0].dtype() || !part.same_storage(parts[0]))
      return {};
    expected += part.bytes();
    rows += part.dim(0);
  }
  Shape shape = parts[0].shape();
  shape[0] = rows;
  return Tensor::wrap(parts[0].raw(), shape, parts[0].dtype(), parts[0].storage(),
                      parts[0].device());
}

// Calls body(first column, rows of W or A as one matrix) for each maximal product.
template <class Body>
void for_each_product(const std::vector<Tensor>& parts, Body body) {
  if (const Tensor all = stacked(parts); all.defined()) return body(0, all);
  int64_t column = 0;
  for (const Tensor& part : parts) {
    body(column, part);
    column += part.dim(0);
  }
}

}  // namespace weft::nn
