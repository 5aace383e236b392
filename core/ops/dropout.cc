#include "core/ops/dropout.h"

namespace weft::ops {
namespace {

void run(const DropoutArgs& args, const Tensor& y_TD, bool accumulate) {
  const Tensor& x_TD = args.x_TD;
  CHECK(x_TD.rank() == 2 && is_compute_type(x_TD.dtype(), x_TD.device()), "x {} {}",
        name_of(x_TD.dtype()), x_TD.shape().to_string());
  CHECK(args.sample_ids_T.dtype() == DType::i64 && args.sample_ids_T.shape() == Shape{x_TD.dim(0)});
  CHECK(args.positions_T.dtype() == DType::i32 && args.positions_T.shape() == Shape{x_TD.dim(0)});
  CHECK(y_TD.shape() == x_TD.shape() && y_TD.dtype() == x_TD.dtype());
  CHECK(0 <= args.p && args.p < 1, "p = {}", args.p);
  auto backend = x_TD.device().is_cpu() ? cpu::dropout : cuda::dropout;
  backend(args, y_TD, accumulate);
}

}  // namespace

Tensor dropout(const DropoutArgs& args) {
  const Tensor y_TD = Tensor::empty(args.x_TD.shape(), args.x_TD.dtype(), args.x_TD.device());
  run(args, y_TD, /*accumulate=*/false);
  return y_TD;
}

void dropout_accumulate(const DropoutArgs& args, const Tensor& y_TD) {
  run(args, y_TD, /*accumulate=*/true);
}

}  // namespace weft::ops
