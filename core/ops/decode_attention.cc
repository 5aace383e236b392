#include "core/ops/decode_attention.h"

namespace weft::ops {

void decode_attention(const DecodeAttentionArgs& args) {
  const AttentionShape& s = args.shape;
  CHECK(
      s.num_heads > 0 && s.num_kv_heads > 0 && s.head_dim > 0 && s.num_heads % s.num_kv_heads == 0,
      "[decode_attention] {} heads, {} kv heads of {}", s.num_heads, s.num_kv_heads, s.head_dim);
  for (const Tensor& t : {args.first_B, args.last_B})
    CHECK(t.rank() == 1 && t.dtype() == DType::i32 && t.dim(0) == args.last_B.dim(0) &&
              t.device() == args.device,
          "[decode_attention] rows {} {}", name_of(t.dtype()), t.shape().to_string());
  CHECK(is_compute_type(args.dtype, args.device), "[decode_attention] {}", name_of(args.dtype));
  CHECK(args.longest >= 1, "[decode_attention] sequences of {} keys", args.longest);
  if (args.last_B.dim(0) == 0) return;
  const auto check = [&](const HeadsView& view, int64_t heads) {
    CHECK(view.data && view.row_stride >= heads * s.head_dim,
          "[decode_attention] rows of {} for {} heads of {}", view.row_stride, heads, s.head_dim);
  };
  check(args.q, s.num_heads);
  check(args.k, s.num_kv_heads);
  check(args.v, s.num_kv_heads);
  check(args.o, s.num_heads);
  auto backend = args.device.is_cpu() ? cpu::decode_attention : cuda::decode_attention;
  backend(args);
}

}  // namespace weft::ops
