// The greedy choice.
#pragma once

#include "core/tensor/tensor.h"

namespace weft::ops {

// out[C] (i32, =) the lowest place of the greatest of each row of x[C,V] (f32). A NaN is never the
// greatest; 0 where there is nothing else.
void argmax(const Tensor& x_CV, const Tensor& out_C);

namespace cpu {
void argmax(const Tensor& x, const Tensor& out);
}
namespace cuda {
void argmax(const Tensor& x, const Tensor& out);
}

}  // namespace weft::ops
