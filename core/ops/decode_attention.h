// Attention of one query a sequence over a cache of keys and values (decoding). Which rows a query
// sees is read where the cache lies, so that a launch does not depend on the step.
#pragma once

#include "core/ops/attention.h"

namespace weft::ops {

// Query b (a row of q) sees the rows first_B[b] .. last_B[b] of k and v, at least one and at most
// `longest`: the caller has checked.
struct DecodeAttentionArgs {
  HeadsView q;  // [B, num_heads * head_dim]
  HeadsView k;  // [rows, num_kv_heads * head_dim]
  HeadsView v;
  HeadsView o;            // [B, num_heads * head_dim], =
  const Tensor& first_B;  // i32
  const Tensor& last_B;   // i32
  int64_t longest = 0;
  AttentionShape shape;
  DType dtype = DType::f32;
  Device device;
};
void decode_attention(const DecodeAttentionArgs& args);

namespace cpu {
void decode_attention(const DecodeAttentionArgs& args);
}
namespace cuda {
void decode_attention(const DecodeAttentionArgs& args);
}

}  // namespace weft::ops
