#include "core/ops/attention.h"

namespace weft::ops {
namespace {

void check_view(const HeadsView& view, int64_t heads, const AttentionArgs& args, const char* name) {
  CHECK(view.data != nullptr && view.row_stride >= heads * args.shape.head_dim,
        "[attention] {}: rows of {} for {} heads of {}", name, view.row_stride, heads,
        args.shape.head_dim);
}

// Whether there is anything to do; CHECKs what must hold.
bool check(const AttentionArgs& args) {
  const AttentionShape& s = args.shape;
  CHECK(args.documents != nullptr);
  CHECK(
      s.num_heads > 0 && s.num_kv_heads > 0 && s.head_dim > 0 && s.num_heads % s.num_kv_heads == 0,
      "[attention] {} heads, {} kv heads of {}", s.num_heads, s.num_kv_heads, s.head_dim);
  CHECK(is_compute_type(args.dtype, args.device), "[attention] {}", name_of(args.dtype));
  if (args.documents->empty()) return false;
  check_view(args.q, s.num_heads, args, "q");
  check_view(args.k, s.num_kv_heads, args, "k");
  check_view(args.v, s.num_kv_heads, args, "v");
  check_view(args.o, s.num_heads, args, "o");
  for (const AttentionDocument& d : *args.documents) {
    CHECK(d.q_len >= 1 && d.kv_len >= d.q_len && d.q_begin >= 0 && d.kv_begin >= 0,
          "[attention] document with queries {} + {}, keys {} + {}", d.q_begin, d.q_len, d.kv_begin,
          d.kv_len);
    if (args.lse.defined())
      CHECK(args.lse.rank() == 2 && args.lse.dim(1) == s.num_heads &&
                d.q_begin + d.q_len <= args.lse.dim(0),
            "[attention] lse {}", args.lse.shape().to_string());
  }
  return true;
}

}  // namespace

void attention(const AttentionArgs& args) {
  if (!check(args)) return;
  if (args.device.is_cpu()) return cpu::attention(args);
  cuda::attention(args);
}

void attention_backward(const AttentionBackwardArgs& args) {
  if (!check(args.forward)) return;
  const AttentionShape& s = args.forward.shape;
  CHECK(args.forward.lse.defined(), "[attention_backward] needs the forward's lse");
  check_view(args.dout, s.num_heads, args.forward, "dout");
  check_view(args.dq, s.num_heads, args.forward, "dq");
  check_view(args.dk, s.num_kv_heads, args.forward, "dk");
  check_view(args.dv, s.num_kv_heads, args.forward, "dv");
  if (args.forward.device.is_cpu()) return cpu::attention_backward(args);
  cuda::attention_backward(args);
}

}  // namespace weft::ops
