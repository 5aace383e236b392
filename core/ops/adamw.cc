#include "core/ops/adamw.h"

#include "core/ops/update_control.h"

namespace weft::ops {

void adamw(const AdamwArgs& args) {
  const int64_t n = args.value.numel();
  const DType value = args.value.dtype(), grad = args.grad.dtype(), state = args.m.dtype();
  CHECK(is_compute_type(value, args.value.device()), "value is {}", name_of(value));
  CHECK(args.master.defined() ? value != DType::f32 : value != DType::f16,
        "a master copy goes with a 16-bit value");
  CHECK(!args.master.defined() || (args.master.numel() == n && args.master.dtype() == DType::f32));
  CHECK(args.grad.numel() == n && args.m.numel() == n && args.v.numel() == n,
        "{} values, {} gradients, {} m, {} v", n, args.grad.numel(), args.m.numel(),
        args.v.numel());
  CHECK(grad == DType::f32 || (grad == value), "gradient {} of a {} value", name_of(grad),
        name_of(value));
  CHECK((state == DType::f32 || state == DType::bf16) && args.v.dtype() == state, "m is {}, v {}",
        name_of(state), name_of(args.v.dtype()));
  CHECK(args.control.numel() == static_cast<int64_t>(Control::count_) &&
        args.control.dtype() == DType::f32);
  auto backend = args.value.device().is_cpu() ? cpu::adamw : cuda::adamw;
  backend(args);
}

}  // namespace weft::ops
