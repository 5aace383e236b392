#include "core/ops/update_control.h"

namespace weft::ops {

void update_control(const UpdateControlArgs& args) {
  const auto is = [](const Tensor& t, auto count, DType dtype) {
    return t.numel() == static_cast<int64_t>(count) && t.dtype() == dtype;
  };
  CHECK(args.gathered.rank() == 2 && args.gathered.dtype() == DType::f64 &&
            args.gathered.dim(1) >= args.shards,
        "{} of {} shards", args.gathered.shape().to_string(), args.shards);
  CHECK(is(args.progress, Progress::count_, DType::f64));
  CHECK(is(args.control, Control::count_, DType::f32));
  CHECK(is(args.report, StepReport::count_, DType::f64));
  auto backend = args.gathered.device().is_cpu() ? cpu::update_control : cuda::update_control;
  backend(args);
}

}  // namespace weft::ops
