#include "core/ops/swiglu.h"

namespace weft::ops {

Tensor swiglu(const Tensor& gate_up_T2F) {
  CHECK(gate_up_T2F.rank() == 2 && gate_up_T2F.dim(1) % 2 == 0, "gate_up {}",
        gate_up_T2F.shape().to_string());
  CHECK(is_compute_type(gate_up_T2F.dtype(), gate_up_T2F.device()));
  const Tensor y_TF = Tensor::empty({gate_up_T2F.dim(0), gate_up_T2F.dim(1) / 2},
                                    gate_up_T2F.dtype(), gate_up_T2F.device());
  auto backend = y_TF.device().is_cpu() ? cpu::swiglu : cuda::swiglu;
  backend(gate_up_T2F, y_TF);
  return y_TF;
}

Tensor swiglu_backward(const Tensor& dy_TF, const Tensor& gate_up_T2F) {
  CHECK(dy_TF.rank() == 2 && gate_up_T2F.rank() == 2 && dy_TF.dim(0) == gate_up_T2F.dim(0) &&
            2 * dy_TF.dim(1) == gate_up_T2F.dim(1),
        "dy {}, gate_up {}", dy_TF.shape().to_string(), gate_up_T2F.shape().to_string());
  CHECK(dy_TF.dtype() == gate_up_T2F.dtype() && dy_TF.device() == gate_up_T2F.device());
  CHECK(is_compute_type(dy_TF.dtype(), dy_TF.device()));
  auto backend = dy_TF.device().is_cpu() ? cpu::swiglu_backward : cuda::swiglu_backward;
  backend(dy_TF, gate_up_T2F);
  return gate_up_T2F;
}

}  // namespace weft::ops
