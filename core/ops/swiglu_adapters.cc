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

void check_front(const Tensor& gate_up, const SwigluFront& front) {
  const Tensor& h = front.h_TR;
  for (const AdapterSegment& s : front.segments)
    CHECK(h.rank() == 2 && h.dim(0) == gate_up.dim(0) && h.dtype() == gate_up.dtype() &&
              h.device() == gate_up.device() && s.rank + s.ranks() <= h.dim(1) &&
              s.b_NR.dtype() == gate_up.dtype() && s.column + s.columns() <= gate_up.dim(1),
          "[swiglu_hidden] h {} {}, b {} {}, gate_up {}", name_of(h.dtype()), h.shape().to_string(),
          name_of(s.b_NR.dtype()), s.b_NR.shape().to_string(), gate_up.shape().to_string());
}

// gate_up += the adapters' part.
void add_front(const Tensor& gate_up, const Tensor& h,
               const std::vector<AdapterSegment>& segments) {
  for (const AdapterSegment& s : segments)
    matmul(columns(h, s.rank, s.rank + s.ranks()), transposed(s.b_NR),
           columns(gate_up, s.column, s.column + s.columns()),
           {.alpha = s.db_scale, .accumulate = true});
}

}  // namespace

SwigluHidden swiglu_hidden(const Tensor& gate_up, const Tensor& a, float scale,
                           const SwigluFront& front) {
  check_gate_up(gate_up, "swiglu_hidden");
  const int64_t tokens = gate_up.dim(0), width = gate_up.dim(1) / 2;
  CHECK(a.rank() == 2 && a.dim(1) == width && a.dtype() == gate_up.dtype() &&
            a.device() == gate_up.device(),
        "[swiglu_hidden] a {} {}, gate_up {}", name_of(a.dtype()), a.shape().to_string(),
        gate_up.shape().to_string());
  check_front(gate_up, front);
  const auto make = [&](int64_t columns) {
    return Tensor::empty({tokens, columns}, gate_up.dtype(), gate_up.device());
  };
  const SwigluHidden result{make(width), make(a.dim(0))};
  if (tokens == 0) return result;
  auto backend = gate_up.device().is_cpu() ? cpu::swiglu_hidden : cuda::swiglu_hidden;
  backend(gate_up, a, scale, front, result);
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

bool swiglu_adds_front(int64_t tokens, const Tensor& a,
                       const std::vector<AdapterSegment>& segments) {
  return !a.device().is_cpu() && cuda::swiglu_adds_front(tokens, a, segments);
}

void swiglu_hidden_by_parts(const Tensor& lacking, const Tensor& a, float scale,
                            const SwigluFront& front, const SwigluHidden& result) {
  const Tensor gate_up = front.segments.empty() ? lacking : lacking.clone();
  add_front(gate_up, front.h_TR, front.segments);
  gate_up.device().is_cpu() ? cpu::swiglu(gate_up, result.y_TF)
                            : cuda::swiglu(gate_up, result.y_TF);
  matmul(result.y_TF, transposed(a), result.h_TR, {.alpha = scale});
}

void swiglu_adapters_backward_by_parts(const SwigluAdaptersBackwardArgs& args, const Tensor& dh) {
  if (args.adds_front) add_front(args.gate_up_T2F, args.h_TR, args.segments);
  if (args.dh_behind_TR.defined())
    matmul(transposed(args.dh_behind_TR), swiglu(args.gate_up_T2F), args.da_RF,
           {.accumulate = true});
  swiglu_backward(args.dy_TF, args.gate_up_T2F);
  if (args.segments.empty()) return;
  const AdapterGradientsArgs front{args.gate_up_T2F, args.h_TR, dh, args.segments};
  dh.device().is_cpu() ? cpu::adapter_gradients(front) : cuda::adapter_gradients(front);
}

}  // namespace weft::ops
