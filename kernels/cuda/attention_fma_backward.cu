// Backward attention (FlashAttention-2, alg. 2) without atomics: dq by blocks of queries, dk and dv
// by blocks of keys; both compute the probabilities again from the forward's lse.
#include "kernels/cuda/attention_fma.cuh"

namespace weft::ops::cuda::fma {
namespace {

template <class T>
__global__ void __launch_bounds__(kThreads) backward_queries_kernel(AttentionParams p) {
  __shared__ Shared s;
  const Unit unit = unit_of(p, p.num_heads);
  const AttentionBlock& block = unit.block;
  const int kv_head = unit.head / p.group;
  const int64_t first = block.q_begin + block.first, num_queries = block.q_len - block.first;
  const Rows<T> q = rows_of<T>(p.q, first, num_queries, unit.head, p);
  const Rows<T> dout = rows_of<T>(p.dout, first, num_queries, unit.head, p);
  float lse[kMine] = {}, delta[kMine] = {}, dq[kMine][8] = {};
  for (int i = 0; i < kMine; ++i) {
    if (thread_y() * kMine + i >= q.count) break;
    const int64_t at = (first + thread_y() * kMine + i) * p.num_heads + unit.head;
    lse[i] = p.lse[at];
    delta[i] = p.delta[at];
  }
  const int64_t seen = block.offset() + block.first;  // the last key of the block's first query
  for (int64_t key = 0; key < seen + q.count; key += kTile) {
    const int64_t left = seen + q.count - key;
    const Rows<T> k = rows_of<T>(p.k, block.kv_begin + key, left, kv_head, p);
    const Rows<T> v = rows_of<T>(p.v, block.kv_begin + key, left, kv_head, p);
    float scores[kMine][4], dprobs[kMine][4];
    scores_product(s, q, k, p.head_dim, scores);
    scores_product(s, dout, v, p.head_dim, dprobs);
    for (int i = 0; i < kMine; ++i)
      for (int j = 0; j < 4; ++j) {
        const int row = thread_y() * kMine + i;
        const bool visible = row < q.count && key + thread_x() * 4 + j <= seen + row;
        const float prob = visible ? expf(scores[i][j] * p.scale - lse[i]) : 0.0f;
        scores[i][j] = prob * (dprobs[i][j] - delta[i]);
      }
    store_weights(s, scores);
    values_product(s, k, unit.column, p.head_dim, dq);
  }
  for (int i = 0; i < kMine; ++i) {
    const int row = thread_y() * kMine + i;
    if (row >= q.count) break;
    store_row(dq[i], p.scale, unit.column, p.head_dim,
              head_row<T>(p.dq, first + row, unit.head, p));
  }
}

// Rows of the tiles are keys here, columns queries.
template <class T>
__global__ void __launch_bounds__(kThreads) backward_keys_kernel(AttentionParams p) {
  __shared__ Shared s;
  const Unit unit = unit_of(p, p.num_heads / p.group);
  const AttentionBlock& block = unit.block;
  const int64_t first = block.kv_begin + block.first, num_keys = block.kv_len - block.first;
  const Rows<T> k = rows_of<T>(p.k, first, num_keys, unit.head, p);
  const Rows<T> v = rows_of<T>(p.v, first, num_keys, unit.head, p);
  float dk[kMine][8] = {}, dv[kMine][8] = {};
  const int64_t first_query = block.first > block.offset() ? block.first - block.offset() : 0;
  for (int head = unit.head * p.group; head < (unit.head + 1) * p.group; ++head)
    for (int64_t query = first_query; query < block.q_len; query += kTile) {
      const int64_t row = block.q_begin + query, left = block.q_len - query;
      const Rows<T> q = rows_of<T>(p.q, row, left, head, p);
      const Rows<T> dout = rows_of<T>(p.dout, row, left, head, p);
      float probs[kMine][4], dscores[kMine][4];
      scores_product(s, k, q, p.head_dim, probs);
      scores_product(s, v, dout, p.head_dim, dscores);
      for (int j = 0; j < 4; ++j) {
        const int column = thread_x() * 4 + j;
        const int64_t at = (row + column) * p.num_heads + head;
        const bool real = column < q.count;
        const float lse = real ? p.lse[at] : 0.0f, delta = real ? p.delta[at] : 0.0f;
        for (int i = 0; i < kMine; ++i) {
          const int64_t key = block.first + thread_y() * kMine + i;
          const bool visible = real && key <= block.offset() + query + column;
          probs[i][j] = visible ? expf(probs[i][j] * p.scale - lse) : 0.0f;
          dscores[i][j] = probs[i][j] * (dscores[i][j] - delta);
        }
      }
      store_weights(s, probs);
      values_product(s, dout, unit.column, p.head_dim, dv);
      __syncthreads();
      store_weights(s, dscores);
      values_product(s, q, unit.column, p.head_dim, dk);
    }
  for (int i = 0; i < kMine; ++i) {
    const int row = thread_y() * kMine + i;
    if (row >= k.count) break;
    store_row(dk[i], p.scale, unit.column, p.head_dim,
              head_row<T>(p.dk, first + row, unit.head, p));
    store_row(dv[i], 1.0f, unit.column, p.head_dim, head_row<T>(p.dv, first + row, unit.head, p));
  }
}

}  // namespace

void backward_queries(DType dtype, const AttentionParams& params, int64_t count,
                      cudaStream_t stream) {
  const unsigned units = units_of(count, params.num_heads, parts_of(params));
  dispatch(dtype, [&](auto type) {
    backward_queries_kernel<decltype(type)><<<units, kThreads, 0, stream>>>(params);
  });
  check(cudaGetLastError(), "attention_backward");
}

void backward_keys(DType dtype, const AttentionParams& params, int64_t count, cudaStream_t stream) {
  const unsigned units = units_of(count, params.num_heads / params.group, parts_of(params));
  dispatch(dtype, [&](auto type) {
    backward_keys_kernel<decltype(type)><<<units, kThreads, 0, stream>>>(params);
  });
  check(cudaGetLastError(), "attention_backward");
}

}  // namespace weft::ops::cuda::fma
