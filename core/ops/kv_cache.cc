#include "core/ops/kv_cache.h"

namespace weft::ops {

void rope_store(const RopeStoreArgs& a) {
  CHECK(a.qkv.rank() == 2 && a.rows_T.rank() == 1 && a.keys.rank() == 2 && a.num_heads > 0 &&
        a.num_kv_heads > 0);
  const int64_t head_dim = a.keys.dim(1) / a.num_kv_heads;
  CHECK(a.qkv.dim(1) == (a.num_heads + 2 * a.num_kv_heads) * head_dim && head_dim % 2 == 0,
        "[rope_store] qkv {}, {} and {} heads of {}", a.qkv.shape().to_string(), a.num_heads,
        a.num_kv_heads, head_dim);
  CHECK(a.rows_T.dim(0) == a.qkv.dim(0) && a.rows_T.dtype() == DType::i32,
        "[rope_store] qkv {}, rows {}", a.qkv.shape().to_string(), a.rows_T.shape().to_string());
  if (a.table.defined())
    CHECK(a.table.shape() == Shape({a.qkv.dim(0), head_dim}) && a.table.dtype() == DType::f32 &&
              a.table.device() == a.qkv.device(),
          "[rope_store] qkv {}, table {}", a.qkv.shape().to_string(), a.table.shape().to_string());
  CHECK(a.keys.dim(1) == a.num_kv_heads * head_dim && a.values.shape() == a.keys.shape(),
        "[rope_store] keys {}, values {}", a.keys.shape().to_string(),
        a.values.shape().to_string());
  CHECK(is_compute_type(a.qkv.dtype(), a.qkv.device()) && a.keys.dtype() == a.qkv.dtype() &&
        a.values.dtype() == a.qkv.dtype());
  CHECK(a.rows_T.device() == a.qkv.device() && a.keys.device() == a.qkv.device() &&
        a.values.device() == a.qkv.device());
  auto backend = a.qkv.device().is_cpu() ? cpu::rope_store : cuda::rope_store;
  backend(a);
}

void advance(const CachePlaces& p) {
  for (const Tensor& t : {p.positions, p.rows, p.first_rows, p.last_rows})
    CHECK(t.rank() == 1 && t.dtype() == DType::i32 && t.dim(0) == p.rows.dim(0) &&
              t.device() == p.rows.device(),
          "[advance] {} {}", name_of(t.dtype()), t.shape().to_string());
  auto backend = p.rows.device().is_cpu() ? cpu::advance : cuda::advance;
  backend(p);
}

}  // namespace weft::ops
