// The shape of a tensor: up to five dims, slowest first, without heap allocation.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace weft {

class Shape {
 public:
  static constexpr int kMaxRank = 5;
  Shape() = default;  // rank 0: one element
  Shape(std::initializer_list<int64_t> dims);
  explicit Shape(const std::vector<int64_t>& dims);

  int rank() const { return rank_; }
  int64_t operator[](int dim) const { return dims_[dim < 0 ? dim + rank_ : dim]; }
  int64_t& operator[](int dim) { return dims_[dim < 0 ? dim + rank_ : dim]; }
  int64_t numel() const;  // throws bad_data when the product does not fit in 63 bits
  const int64_t* begin() const { return dims_.data(); }
  const int64_t* end() const { return dims_.data() + rank_; }
  std::vector<int64_t> to_vector() const { return {begin(), end()}; }
  std::string to_string() const;  // "[2, 3]"
  bool operator==(const Shape& other) const;

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

}  // namespace weft
