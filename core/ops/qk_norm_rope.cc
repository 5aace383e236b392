#include "core/ops/qk_norm_rope.h"

namespace weft::ops {
namespace {

void check_weight(const Tensor& weight, const QkNormRopeArgs& args) {
  CHECK(weight.rank() == 1 && weight.dim(0) == args.table.dim(1), "weight {}, table {}",
        weight.shape().to_string(), args.table.shape().to_string());
  CHECK(weight.dtype() == DType::f32 || weight.dtype() == args.qkv.dtype());
  CHECK(weight.device() == args.qkv.device());
}

void check_args(const QkNormRopeArgs& args) {
  const Tensor &qkv = args.qkv, &table = args.table;
  CHECK(qkv.rank() == 2 && table.rank() == 2 && qkv.dim(0) == table.dim(0), "qkv {}, table {}",
        qkv.shape().to_string(), table.shape().to_string());
  CHECK(is_compute_type(qkv.dtype(), qkv.device()), "qkv is {}", name_of(qkv.dtype()));
  CHECK(table.dtype() == DType::f32 && table.dim(1) % 2 == 0 && table.device() == qkv.device());
  CHECK(args.num_heads > 0 && args.num_kv_heads > 0 &&
            (args.num_heads + 2 * args.num_kv_heads) * table.dim(1) == qkv.dim(1),
        "{} heads and {} kv heads of {} in {}", args.num_heads, args.num_kv_heads, table.dim(1),
        qkv.shape().to_string());
  check_weight(args.q_weight, args);
  check_weight(args.k_weight, args);
  CHECK(args.q_weight.dtype() == args.k_weight.dtype());
}

void check_dweight(const Tensor& dweight, const QkNormRopeArgs& args) {
  if (!dweight.defined()) return;
  CHECK(dweight.shape() == args.q_weight.shape() && dweight.device() == args.table.device());
  CHECK(dweight.dtype() == DType::f32 || dweight.dtype() == args.qkv.dtype());
}

Shape rstd_shape(const QkNormRopeArgs& args) {
  return {args.qkv.dim(0), args.num_heads + args.num_kv_heads};
}

}  // namespace

QkNormRopeResult qk_norm_rope(const QkNormRopeArgs& args) {
  check_args(args);
  const Device device = args.qkv.device();
  QkNormRopeResult result{Tensor::empty(args.qkv.shape(), args.qkv.dtype(), device),
                          Tensor::empty(rstd_shape(args), DType::f32, device)};
  auto backend = device.is_cpu() ? cpu::qk_norm_rope : cuda::qk_norm_rope;
  backend(args, result);
  return result;
}

void qk_norm_rope_backward(const QkNormRopeBackwardArgs& args) {
  check_args(args.forward);
  const Tensor& qkv = args.forward.qkv;
  CHECK(args.dqkv.shape() == qkv.shape() && args.dqkv.dtype() == qkv.dtype() &&
            args.dqkv.device() == qkv.device(),
        "dqkv {}, qkv {}", args.dqkv.shape().to_string(), qkv.shape().to_string());
  CHECK(args.rstd.shape() == rstd_shape(args.forward) && args.rstd.dtype() == DType::f32, "rstd {}",
        args.rstd.shape().to_string());
  check_dweight(args.dq_weight, args.forward);
  check_dweight(args.dk_weight, args.forward);
  auto backend = qkv.device().is_cpu() ? cpu::qk_norm_rope_backward : cuda::qk_norm_rope_backward;
  backend(args);
}

}  // namespace weft::ops
