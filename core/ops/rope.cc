#include "core/ops/rope.h"

namespace weft::ops {

Tensor rope_table(const Tensor& positions_T, const Tensor& inv_freq) {
  CHECK(positions_T.rank() == 1 && positions_T.dtype() == DType::i32);
  CHECK(inv_freq.rank() == 1 && inv_freq.dtype() == DType::f32);
  CHECK(positions_T.device() == inv_freq.device());
  const Tensor table =
      Tensor::empty({positions_T.dim(0), 2 * inv_freq.dim(0)}, DType::f32, positions_T.device());
  auto backend = table.device().is_cpu() ? cpu::rope_table : cuda::rope_table;
  backend(positions_T, inv_freq, table);
  return table;
}

void rope(const RopeArgs& args) {
  CHECK(args.x.rank() == 2 && args.table.rank() == 2 && args.x.dim(0) == args.table.dim(0),
        "x {}, table {}", args.x.shape().to_string(), args.table.shape().to_string());
  CHECK(is_compute_type(args.x.dtype(), args.x.device()));
  CHECK(args.table.dtype() == DType::f32 && args.table.dim(1) % 2 == 0);
  CHECK(args.num_heads >= 0 && args.num_heads * args.table.dim(1) <= args.x.dim(1),
        "{} heads of {} in {}", args.num_heads, args.table.dim(1), args.x.shape().to_string());
  CHECK(args.x.device() == args.table.device());
  auto backend = args.x.device().is_cpu() ? cpu::rope : cuda::rope;
  backend(args);
}

}  // namespace weft::ops
