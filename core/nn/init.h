// Initial values of parameters that no file gives.
#pragma once

#include "core/nn/parameter.h"

namespace weft::nn {

// By parameter.init; an element's value depends on (seed, name, global index) only.
void initialize(const Parameter& parameter, uint64_t seed);

}  // namespace weft::nn
