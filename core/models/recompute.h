// What a forward keeps for its backward.
#pragma once

#include <cstddef>
#include <limits>

namespace weft::models {

enum class Recompute {
  none,       // keep every activation
  selective,  // make norms' and SwiGLU's outputs again: cheap, and half of the memory
  full,       // keep each block's input only
};

// The mode holds for the first `layers` blocks; the others do what is next in cost: selective after
// full, none after selective.
struct RecomputePlan {
  Recompute mode = Recompute::none;
  size_t layers = std::numeric_limits<size_t>::max();

  RecomputePlan(Recompute all) : mode(all) {}
  RecomputePlan(Recompute first, size_t count) : mode(first), layers(count) {}
  Recompute of(size_t layer) const {
    if (layer < layers || mode == Recompute::none) return mode;
    return mode == Recompute::full ? Recompute::selective : Recompute::none;
  }
};

}  // namespace weft::models
