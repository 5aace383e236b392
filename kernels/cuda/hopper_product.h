// Our own products for Hopper (hopper_product.cuh).
#pragma once

#include "core/ops/matmul.h"

namespace weft::ops::cuda::hopper {

// bf16 or f16 throughout, a contiguous along its rows, at most four thin products without factors,
// addend or bias or neither, everything in whole 16 bytes, on a GPU of compute capability 9.0; and
// enough rows and columns that its tiles are worth it.
bool takes(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options);
// REQUIRES: takes(...). Sums everything in f32 and rounds once. On c's compute stream, without
// workspace; the same bits always.
void multiply(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options);

}  // namespace weft::ops::cuda::hopper
