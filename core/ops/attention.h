// Causal attention with grouped heads over documents (packed training, prefill and decode with a KV
// cache). Memory is linear in the sequence: scores exist a tile at a time (Dao 2023,
// FlashAttention-2, alg. 1).
#pragma once

#include <vector>

#include "core/tensor/tensor.h"

namespace weft::ops {

// Queries [q_begin, q_begin + q_len) see keys kv_begin + 0 .. of their own document only; query i
// sees keys 0 .. kv_len - q_len + i (causal, the queries being the last q_len positions). kv_len >=
// q_len >= 1.
struct AttentionDocument {
  int64_t q_begin = 0;
  int64_t q_len = 0;
  int64_t kv_begin = 0;
  int64_t kv_len = 0;
  bool operator==(const AttentionDocument&) const = default;
};

struct AttentionShape {
  int64_t num_heads = 0;
  int64_t num_kv_heads =
      0;  // divides num_heads; query head h uses kv head h / (num_heads/num_kv_heads)
  int64_t head_dim = 0;  // any
  float scale = 0;       // of q k^T, 1/sqrt(head_dim)
};

// Rows of `row_stride` elements, first of them at data: a column range of a fused qkv, or of a
// cache.
struct HeadsView {
  void* data = nullptr;
  int64_t row_stride = 0;
};

struct AttentionArgs {
  HeadsView q;  // [Tq, num_heads * head_dim]
  HeadsView k;  // [Tkv, num_kv_heads * head_dim]
  HeadsView v;
  HeadsView o;  // [Tq, num_heads * head_dim], = ; rows outside every document are left alone
  Tensor lse;   // [Tq, num_heads] f32, log of the softmax's denominator; undefined: not wanted
  AttentionShape shape;
  const std::vector<AttentionDocument>* documents = nullptr;
  DType dtype = DType::f32;  // of q, k, v, o: f32 or bf16; f16 on GPUs
  Device device;
};
void attention(const AttentionArgs& args);

// Training only (k and v rows are the documents' own). dq, dk, dv are assigned (=).
struct AttentionBackwardArgs {
  AttentionArgs forward;  // as it was called, with o and lse filled
  HeadsView dout;         // do, [Tq, num_heads * head_dim]
  HeadsView dq;
  HeadsView dk;
  HeadsView dv;
  bool deterministic = true;  // the same bits on every call; false: what is faster
};
void attention_backward(const AttentionBackwardArgs& args);

namespace cpu {
void attention(const AttentionArgs& args);
void attention_backward(const AttentionBackwardArgs& args);
}  // namespace cpu
namespace cuda {
void attention(const AttentionArgs& args);
void attention_backward(const AttentionBackwardArgs& args);
}  // namespace cuda

}  // namespace weft::ops
