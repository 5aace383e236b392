#include "core/ops/argmax.h"

namespace weft::ops {

void argmax(const Tensor& x_CV, const Tensor& out_C) {
  CHECK(x_CV.rank() == 2 && x_CV.dtype() == DType::f32 && out_C.rank() == 1 &&
            out_C.dtype() == DType::i32 && out_C.dim(0) == x_CV.dim(0),
        "[argmax] {} {} to {} {}", name_of(x_CV.dtype()), x_CV.shape().to_string(),
        name_of(out_C.dtype()), out_C.shape().to_string());
  CHECK(x_CV.dim(1) > 0 && x_CV.dim(1) < (int64_t{1} << 31), "[argmax] rows of {}", x_CV.dim(1));
  CHECK(x_CV.device() == out_C.device());
  if (x_CV.dim(0) == 0) return;
  auto backend = x_CV.device().is_cpu() ? cpu::argmax : cuda::argmax;
  backend(x_CV, out_C);
}

}  // namespace weft::ops
