#include "core/ops/adapter_input_gradient.h"

#include "core/ops/matmul.h"
#include "core/ops/rms_norm.h"

namespace weft::ops {

void adapter_input_gradient(const AdapterInputGradientArgs& args) {
  const Tensor &x = args.input(), &da = args.da_RK;
  CHECK(x.rank() == 2 && args.dh_TR.rows == x.dim(0) && args.dh_TR.col_stride == 1 &&
            args.dh_TR.dtype == x.dtype() && args.dh_TR.device == x.device() &&
            is_compute_type(x.dtype(), x.device()),
        "[adapter_input_gradient] dh [{}, {}], x {} {}", args.dh_TR.rows, args.dh_TR.cols,
        name_of(x.dtype()), x.shape().to_string());
  CHECK(da.shape() == Shape({args.dh_TR.cols, x.dim(1)}) && da.device() == x.device() &&
            (da.dtype() == DType::f32 || da.dtype() == x.dtype()),
        "[adapter_input_gradient] da {} {}", name_of(da.dtype()), da.shape().to_string());
  const NormedInput& normed = args.normed;
  if (!args.x_TK.defined())
    CHECK(normed.weight_K.shape() == Shape({x.dim(1)}) &&
              (normed.weight_K.dtype() == DType::f32 || normed.weight_K.dtype() == x.dtype()) &&
              normed.rstd_T.shape() == Shape({x.dim(0)}) && normed.rstd_T.dtype() == DType::f32,
          "[adapter_input_gradient] weight {} {}, rstd {} {}", name_of(normed.weight_K.dtype()),
          normed.weight_K.shape().to_string(), name_of(normed.rstd_T.dtype()),
          normed.rstd_T.shape().to_string());
  if (da.numel() == 0 || x.dim(0) == 0) return;
  x.device().is_cpu() ? cpu::adapter_input_gradient(args) : cuda::adapter_input_gradient(args);
}

void adapter_input_gradient_by_product(const AdapterInputGradientArgs& args) {
  const NormedInput& normed = args.normed;
  const Tensor x_TK = args.x_TK.defined()
                          ? args.x_TK
                          : rms_norm_rebuild(normed.from_TK, normed.weight_K, normed.rstd_T);
  matmul(args.dh_TR.transposed(), x_TK, args.da_RK, {.accumulate = true});
}

}  // namespace weft::ops
