#include "core/ops/adamw.h"

#include "core/ops/update_control.h"

namespace weft::ops {
namespace {

void check_run(const AdamwRun& run, Device device) {
  const int64_t n = run.value.numel();
  const DType value = run.value.dtype(), grad = run.grad.dtype(), state = run.m.dtype();
  CHECK(run.value.device() == device, "value on {}, control on {}", to_string(run.value.device()),
        to_string(device));
  CHECK(is_compute_type(value, device), "value is {}", name_of(value));
  CHECK(run.master.defined() ? value != DType::f32 : value != DType::f16,
        "a master copy goes with a 16-bit value");
  CHECK(!run.master.defined() || (run.master.numel() == n && run.master.dtype() == DType::f32));
  CHECK(run.grad.numel() == n && run.m.numel() == n && run.v.numel() == n,
        "{} values, {} gradients, {} m, {} v", n, run.grad.numel(), run.m.numel(), run.v.numel());
  CHECK(grad == DType::f32 || (grad == value), "gradient {} of a {} value", name_of(grad),
        name_of(value));
  CHECK((state == DType::f32 || state == DType::bf16) && run.v.dtype() == state, "m is {}, v {}",
        name_of(state), name_of(run.v.dtype()));
}

}  // namespace

void adamw(const AdamwArgs& args) {
  CHECK(args.control.numel() == static_cast<int64_t>(Control::count_) &&
        args.control.dtype() == DType::f32);
  for (const AdamwRun& run : args.runs) check_run(run, args.control.device());
  auto backend = args.control.device().is_cpu() ? cpu::adamw : cuda::adamw;
  backend(args);
}

}  // namespace weft::ops
