// What a device could do at most: the divisor of `mfu`.
#pragma once

#include <string_view>

#include "core/tensor/device.h"
#include "core/tensor/dtype.h"

namespace weft::telemetry {

// FLOP a second of dense bf16 or fp16 products on a GPU of this name ("NVIDIA H100 80GB HBM3");
// 0: not known (a part of a GPU, a laptop's, a new one).
double half_peak_flops(std::string_view gpu_name);

// The same of a device as it computes in `dtype`. 0 for f32 and for CPUs, whose peak depends on
// clocks and settings that nobody can look up.
double peak_flops(Device device, DType dtype);

}  // namespace weft::telemetry
