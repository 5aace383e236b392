#include "core/ops/argmax.h"

#include <limits>

#include "core/base/threads.h"

namespace weft::ops::cpu {

void argmax(const Tensor& x_CV, const Tensor& out_C) {
  const int64_t width = x_CV.dim(1);
  parallel_for(x_CV.dim(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      const float* row = x_CV.data<float>() + c * width;
      float greatest = -std::numeric_limits<float>::infinity();
      int64_t place = -1;
      for (int64_t i = 0; i < width; ++i)
        if (row[i] > greatest || (place < 0 && row[i] == greatest)) greatest = row[i], place = i;
      out_C.data<int32_t>()[c] = static_cast<int32_t>(place < 0 ? 0 : place);
    }
  });
}

}  // namespace weft::ops::cpu
