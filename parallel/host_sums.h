// The sums of the communicators in host memory.
#pragma once

#include <vector>

#include "parallel/communicator.h"

namespace weft::parallel {

// out[i] = parts[0][i] + parts[1][i] + ... (or their maximum), in that order, in f32 (f64 for f64,
// i64 for integers), rounded once to the dtype. `out` may be one of the parts.
void reduce_in_order(DType dtype, Reduce reduce, const std::vector<const void*>& parts, void* out,
                     int64_t count);

}  // namespace weft::parallel
