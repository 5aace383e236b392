// Uneven pieces of work, shared out among the threads as they become free.
#pragma once

#include <algorithm>
#include <atomic>
#include <functional>

#include "core/base/threads.h"
#include "core/tensor/tensor.h"

namespace weft::ops::cpu {

// Calls work(unit, scratch) for units 0 .. count - 1; each thread takes the next one that is free
// and has `scratch_floats` of its own, so work must not depend on who does it.
inline void run_units(int64_t count, int64_t scratch_floats,
                      const std::function<void(int64_t, float*)>& work) {
  std::atomic<int64_t> next{0};
  parallel_for(std::min<int64_t>(count, num_threads()), 1, [&](int64_t, int64_t) {
    const Tensor scratch = Tensor::empty({scratch_floats}, DType::f32, {}, MemoryTag::workspace);
    for (int64_t unit = next++; unit < count; unit = next++) work(unit, scratch.data<float>());
  });
}

}  // namespace weft::ops::cpu
