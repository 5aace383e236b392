// What a forward keeps for its backward, and where it waits.
#pragma once

#include <cstddef>
#include <limits>

#include "core/base/error.h"

namespace weft::models {

enum class Recompute {
  none,       // keep every activation
  selective,  // make norms' and SwiGLU's outputs again: cheap, and half of the memory (plain LoRA
              // keeps neither anyway)
  full,       // keep each block's input only
};

// The mode holds for the first `layers` blocks; the others do what is next in cost: selective after
// full, none after selective. What some blocks keep waits in host memory; such a block is not
// recomputed in full.
struct RecomputePlan {
  Recompute mode = Recompute::none;
  size_t layers = std::numeric_limits<size_t>::max();
  size_t offloaded = 0;  // blocks whose activations wait in host memory
  size_t blocks = 0;     // of so many

  RecomputePlan(Recompute all) : mode(all) {}
  RecomputePlan(Recompute first, size_t count) : mode(first), layers(count) {}
  RecomputePlan with_offload(size_t count, size_t of_blocks) const {
    CHECK(count <= of_blocks, "{} of {} blocks", count, of_blocks);
    RecomputePlan plan = *this;
    plan.offloaded = count;
    plan.blocks = of_blocks;
    return plan;
  }

  // Block k * blocks / offloaded, rounded down, for k from 0: evenly over the depth, and the last
  // block, whose backward comes at once, only where all are.
  bool offloads(size_t layer) const {
    if (offloaded == 0) return false;
    const size_t past = layer * offloaded % blocks;
    return past == 0 || past + offloaded > blocks;
  }
  Recompute of(size_t layer) const {
    const Recompute own = layer < layers || mode == Recompute::none ? mode
                          : mode == Recompute::full                 ? Recompute::selective
                                                                    : Recompute::none;
    return own == Recompute::full && offloads(layer) ? Recompute::selective : own;
  }
};

}  // namespace weft::models
