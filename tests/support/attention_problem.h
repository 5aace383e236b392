// Calls of attention on random values, for its tests.
#pragma once

#include <cmath>
#include <vector>

#include "core/ops/attention.h"
#include "tests/support/tensors.h"

namespace weft::test {

using ops::AttentionArgs;
using ops::AttentionBackwardArgs;
using ops::AttentionDocument;
using ops::AttentionShape;
using ops::HeadsView;

// q, k and v side by side in rows [Tq or Tkv, ...] with a little unused room, as a fused qkv has.
struct AttentionProblem {
  AttentionShape shape;
  std::vector<AttentionDocument> documents;
  Tensor q, k, v, o, lse;
  Tensor dout, dq, dk, dv;
  AttentionArgs args() const {
    return {view(q), view(k), view(v), view(o), lse, shape, &documents, q.dtype(), q.device()};
  }
  AttentionBackwardArgs backward_args() const {
    return {args(), view(dout), view(dq), view(dk), view(dv)};
  }
  static HeadsView view(const Tensor& t) { return {t.raw(), t.dim(1)}; }
};

// Unused elements at the end of every row: 3, so that rows begin anywhere, or 8, so that those of
// most head_dims allow vectors.
inline constexpr int64_t kRoom = 3;
inline constexpr int64_t kRoomForVectors = 8;

inline AttentionProblem make_problem(const AttentionShape& shape,
                                     const std::vector<AttentionDocument>& documents, DType dtype,
                                     uint32_t seed = 1, int64_t room = kRoom) {
  AttentionProblem p{shape, documents, {}, {}, {}, {}, {}, {}, {}, {}, {}};
  p.shape.scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  int64_t tq = 0, tkv = 0;
  for (const AttentionDocument& d : documents) {
    tq = std::max(tq, d.q_begin + d.q_len);
    tkv = std::max(tkv, d.kv_begin + d.kv_len);
  }
  const int64_t q_width = shape.num_heads * shape.head_dim + room;
  const int64_t kv_width = shape.num_kv_heads * shape.head_dim + room;
  p.q = random_tensor({tq, q_width}, dtype, seed, 2.0);
  p.k = random_tensor({tkv, kv_width}, dtype, seed + 1, 2.0);
  p.v = random_tensor({tkv, kv_width}, dtype, seed + 2);
  p.dout = random_tensor({tq, q_width}, dtype, seed + 3);
  p.o = Tensor::zeros({tq, q_width}, dtype, device_of_test());
  p.dq = Tensor::zeros({tq, q_width}, dtype, device_of_test());
  p.dk = Tensor::zeros({tkv, kv_width}, dtype, device_of_test());
  p.dv = Tensor::zeros({tkv, kv_width}, dtype, device_of_test());
  p.lse = Tensor::zeros({tq, shape.num_heads}, DType::f32, device_of_test());
  return p;
}

// Documents one after the other, queries and keys in the same rows.
inline std::vector<AttentionDocument> packed(const std::vector<int64_t>& lengths) {
  std::vector<AttentionDocument> documents;
  int64_t begin = 0;
  for (int64_t n : lengths) {
    documents.push_back({begin, n, begin, n});
    begin += n;
  }
  return documents;
}

}  // namespace weft::test
