// What a forward keeps for its backward.
#pragma once

namespace weft::models {

enum class Recompute {
  none,       // keep every activation
  selective,  // make norms' and SwiGLU's outputs again: cheap, and half of the memory
  full,       // keep each block's input only
};

}  // namespace weft::models
