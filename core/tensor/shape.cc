#include "core/tensor/shape.h"

#include <algorithm>

#include "core/base/error.h"

namespace weft {

Shape::Shape(std::initializer_list<int64_t> dims) : Shape(std::vector<int64_t>(dims)) {}

Shape::Shape(const std::vector<int64_t>& dims) : rank_(static_cast<int>(dims.size())) {
  if (rank_ > kMaxRank)
    fail(ErrorKind::bad_data, "a tensor of {} dims: at most {} are supported", rank_, kMaxRank);
  for (int64_t dim : dims)
    if (dim < 0) fail(ErrorKind::bad_data, "a tensor with a negative dim {}", dim);
  std::copy(dims.begin(), dims.end(), dims_.begin());
}

int64_t Shape::numel() const {
  int64_t product = 1;
  for (int64_t dim : *this)
    if (__builtin_mul_overflow(product, dim, &product))
      fail(ErrorKind::bad_data, "a tensor of shape {}: too many elements", to_string());
  return product;
}

std::string Shape::to_string() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) text += (i ? ", " : "") + std::to_string(dims_[i]);
  return text + "]";
}

bool Shape::operator==(const Shape& other) const {
  return rank_ == other.rank_ && std::equal(begin(), end(), other.begin());
}

}  // namespace weft
