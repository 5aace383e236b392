#include "core/ops/swiglu_adapters.h"

#include "core/ops/matmul.h"
#include "core/ops/swiglu.h"

namespace weft::ops {
namespace {

void check_gate_up(const Tensor& gate_up, const char* op) {
  CHECK(gate_up.rank() == 2 && gate_up.dim(1) % 2 == 0 &&
            is_compute_type(gate_up.dtype(), gate_up.device()),
        "[{}] gate_up {} {}", op, name_of(gate_up.dtype()), gate_up.shape().to_string());
}

void check_behind(const SwigluAdaptersBackwardArgs& args) {
  const Tensor &dy = args.dy_TF, &dh = args.dh_behind_TR, &da = args.da_RF;
  if (!dh.defined()) return;
  CHECK(dh.rank() == 2 && dh.dim(0) == dy.dim(0) && dh.dtype() == dy.dtype() &&
            dh.device() == dy.device() && da.shape() == Shape({dh.dim(1), dy.dim(1)}) &&
            (da.dtype() == DType::f32 || da.dtype() == dy.dtype()),
        "[swiglu_adapters_backward] dh {}, da {} {}, dy {}", dh.shape().to_string(),
        name_of(da.dtype()), da.shape().to_string(), dy.shape().to_string());
}

}  // namespace

SwigluHidden swiglu_hidden(const Tensor& gate_up, const Tensor& a, float scale) {
  check_gate_up(gate_up, "swiglu_hidden");
  const int64_t tokens = gate_up.dim(0), width = gate_up.dim(1) / 2;
  CHECK(a.rank() == 2 && a.dim(1) == width && a.dtype() == gate_up.dtype() &&
            a.device() == gate_up.device(),
        "[swiglu_hidden] a {} {}, gate_up {}", name_of(a.dtype()), a.shape().to_string(),
        gate_up.shape().to_string());
  const auto make = [&](int64_t columns) {
    return Tensor::empty({tokens, columns}, gate_up.dtype(), gate_up.device());
  };
  const SwigluHidden result{make(width), make(a.dim(0))};
  if (tokens == 0) return result;
  auto backend = gate_up.device().is_cpu() ? cpu::swiglu_hidden : cuda::swiglu_hidden;
  backend(gate_up, a, scale, result);
  return result;
}

Tensor swiglu_adapters_backward(const SwigluAdaptersBackwardArgs& args) {
  const Tensor &dy = args.dy_TF, &gate_up = args.gate_up_T2F;
  check_gate_up(gate_up, "swiglu_adapters_backward");
  CHECK(dy.rank() == 2 && dy.dim(0) == gate_up.dim(0) && 2 * dy.dim(1) == gate_up.dim(1) &&
            dy.dtype() == gate_up.dtype() && dy.device() == gate_up.device(),
        "[swiglu_adapters_backward] dy {} {}, gate_up {}", name_of(dy.dtype()),
        dy.shape().to_string(), gate_up.shape().to_string());
  check_behind(args);
  Tensor dh_TR;
  if (!args.segments.empty()) {
    check_adapter_segments(gate_up, args.h_TR, args.segments);
    dh_TR = Tensor::empty(args.h_TR.shape(), dy.dtype(), dy.device());
  }
  if (dy.dim(0) == 0) return dh_TR;
  auto backend =
      dy.device().is_cpu() ? cpu::swiglu_adapters_backward : cuda::swiglu_adapters_backward;
  backend(args, dh_TR);
  return dh_TR;
}

void swiglu_hidden_by_parts(const Tensor& gate_up, const Tensor& a, float scale,
                            const SwigluHidden& result) {
  gate_up.device().is_cpu() ? cpu::swiglu(gate_up, result.y_TF)
                            : cuda::swiglu(gate_up, result.y_TF);
  matmul(result.y_TF, transposed(a), result.h_TR, {.alpha = scale});
}

void swiglu_adapters_backward_by_parts(const SwigluAdaptersBackwardArgs& args, const Tensor& dh) {
  if (args.dh_behind_TR.defined())
    matmul(transposed(args.dh_behind_TR), swiglu(args.gate_up_T2F), args.da_RF,
           {.accumulate = true});
  swiglu_backward(args.dy_TF, args.gate_up_T2F);
  if (args.segments.empty()) return;
  const AdapterGradientsArgs front{args.gate_up_T2F, args.h_TR, dh, args.segments};
  dh.device().is_cpu() ? cpu::adapter_gradients(front) : cuda::adapter_gradients(front);
}

}  // namespace weft::ops
