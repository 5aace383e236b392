#include "core/ops/adamw.h"

namespace weft::ops {

void adamw(const AdamwArgs& args) {
  const int64_t n = args.value.numel();
  const bool is_f32 = args.value.dtype() == DType::f32;
  CHECK(is_f32 || is_compute_type(args.value.dtype(), args.value.device()), "value is {}",
        name_of(args.value.dtype()));
  CHECK(is_f32 != args.master.defined(), "a master copy goes with a bf16 value");
  CHECK(is_f32 || (args.master.numel() == n && args.master.dtype() == DType::f32));
  CHECK(args.grad.numel() == n && args.m.numel() == n && args.v.numel() == n,
        "{} values, {} gradients, {} m, {} v", n, args.grad.numel(), args.m.numel(),
        args.v.numel());
  CHECK(is_compute_type(args.grad.dtype(), args.grad.device()));
  CHECK(args.m.dtype() == DType::f32 && args.v.dtype() == DType::f32);
  CHECK(args.control.numel() == 2 && args.control.dtype() == DType::f32);
  CHECK(args.hyper.step >= 1, "step {}", args.hyper.step);
  auto backend = args.value.device().is_cpu() ? cpu::adamw : cuda::adamw;
  backend(args);
}

}  // namespace weft::ops
