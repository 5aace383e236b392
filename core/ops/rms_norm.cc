#include "core/ops/rms_norm.h"

namespace weft::ops {
namespace {

void check_rows(const Tensor& x_TD, const Tensor& weight_D) {
  CHECK(x_TD.rank() == 2 && weight_D.rank() == 1 && x_TD.dim(1) == weight_D.dim(0),
        "x {}, weight {}", x_TD.shape().to_string(), weight_D.shape().to_string());
  CHECK(is_compute_type(x_TD.dtype(), x_TD.device()), "x is {}", name_of(x_TD.dtype()));
  CHECK(weight_D.dtype() == DType::f32 || weight_D.dtype() == x_TD.dtype());
  CHECK(x_TD.device() == weight_D.device());
}

void check_like(const Tensor& a, const Tensor& b) {
  CHECK(a.shape() == b.shape() && a.dtype() == b.dtype() && a.device() == b.device(),
        "{} {} and {} {}", name_of(a.dtype()), a.shape().to_string(), name_of(b.dtype()),
        b.shape().to_string());
}

void check_rstd(const Tensor& rstd, const Shape& shape) {
  CHECK(rstd.shape() == shape && rstd.dtype() == DType::f32, "rstd {}", rstd.shape().to_string());
}

void check_dweight(const Tensor& dweight_D, const Tensor& weight_D, const Tensor& x_TD) {
  if (!dweight_D.defined()) return;
  CHECK(dweight_D.shape() == weight_D.shape());
  CHECK(dweight_D.dtype() == DType::f32 || dweight_D.dtype() == x_TD.dtype());
}

void run_forward(const RmsNormArgs& args) {
  auto backend = args.x_TD.device().is_cpu() ? cpu::rms_norm : cuda::rms_norm;
  backend(args);
}

}  // namespace

RmsNormResult rms_norm(const Tensor& x_TD, const Tensor& weight_D, float eps) {
  check_rows(x_TD, weight_D);
  RmsNormResult result{Tensor::empty(x_TD.shape(), x_TD.dtype(), x_TD.device()),
                       Tensor::empty({x_TD.dim(0)}, DType::f32, x_TD.device())};
  run_forward({x_TD, Tensor(), weight_D, Tensor(), result.y, result.rstd, eps});
  return result;
}

AddRmsNormResult add_rms_norm(const Tensor& x_TD, const Tensor& residual_TD, const Tensor& weight_D,
                              float eps) {
  check_rows(x_TD, weight_D);
  check_like(x_TD, residual_TD);
  AddRmsNormResult result{Tensor::empty(x_TD.shape(), x_TD.dtype(), x_TD.device()),
                          Tensor::empty(x_TD.shape(), x_TD.dtype(), x_TD.device()),
                          Tensor::empty({x_TD.dim(0)}, DType::f32, x_TD.device())};
  run_forward({x_TD, residual_TD, weight_D, result.sum, result.y, result.rstd, eps});
  return result;
}

Tensor rms_norm_rebuild(const Tensor& x_TD, const Tensor& weight_D, const Tensor& rstd_T) {
  check_rows(x_TD, weight_D);
  check_rstd(rstd_T, {x_TD.dim(0)});
  const Tensor y_TD = Tensor::empty(x_TD.shape(), x_TD.dtype(), x_TD.device());
  auto backend = x_TD.device().is_cpu() ? cpu::rms_norm_rebuild : cuda::rms_norm_rebuild;
  backend(x_TD, weight_D, rstd_T, y_TD);
  return y_TD;
}

Tensor rms_norm_backward(const RmsNormBackwardArgs& args) {
  check_rows(args.x_TD, args.weight_D);
  check_like(args.x_TD, args.dy_TD);
  check_rstd(args.rstd_T, {args.x_TD.dim(0)});
  if (args.dresidual_TD.defined()) check_like(args.x_TD, args.dresidual_TD);
  check_dweight(args.dweight_D, args.weight_D, args.x_TD);
  const Tensor dx_TD = Tensor::empty(args.x_TD.shape(), args.x_TD.dtype(), args.x_TD.device());
  auto backend = args.x_TD.device().is_cpu() ? cpu::rms_norm_backward : cuda::rms_norm_backward;
  backend(args, dx_TD);
  return dx_TD;
}

}  // namespace weft::ops
