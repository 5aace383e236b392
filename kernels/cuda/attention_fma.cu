#include "kernels/cuda/attention_fma.cuh"

namespace weft::ops::cuda::fma {
namespace {

// The running softmax of a thread's rows; the 16 threads of a row hold the same.
struct Softmax {
  float max[kMine];
  float sum[kMine];
};

__device__ float max_of_row(float x) {
  for (int offset = 8; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, offset, 16));
  return x;
}
__device__ float sum_of_row(float x) {
  for (int offset = 8; offset > 0; offset /= 2) x += __shfl_xor_sync(~0u, x, offset, 16);
  return x;
}

// scores become exp(score - max), 0 past the key that a row sees last; sums are rescaled. Row i of
// the thread sees `visible` + i keys' columns of the tile; each row sees some key of the first.
__device__ void softmax_tile(float (&scores)[kMine][4], int64_t visible, float scale,
                             Softmax& state, float (&sums)[kMine][8]) {
  for (int i = 0; i < kMine; ++i) {
    float best = state.max[i];
    for (int j = 0; j < 4; ++j) {
      const bool seen = thread_x() * 4 + j <= visible + i;
      scores[i][j] = seen ? scores[i][j] * scale : -INFINITY;
      best = fmaxf(best, scores[i][j]);
    }
    best = max_of_row(best);
    const float rescale = expf(state.max[i] - best);
    float sum = 0;
    for (int j = 0; j < 4; ++j) sum += scores[i][j] = expf(scores[i][j] - best);
    state.max[i] = best;
    state.sum[i] = state.sum[i] * rescale + sum_of_row(sum);
    for (float& x : sums[i]) x *= rescale;
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) attention_kernel(AttentionParams p) {
  __shared__ Shared s;
  const Unit unit = unit_of(p, p.num_heads);
  const AttentionBlock& block = unit.block;
  const int kv_head = unit.head / p.group;
  const Rows<T> q =
      rows_of<T>(p.q, block.q_begin + block.first, block.q_len - block.first, unit.head, p);
  Softmax state;
  float sums[kMine][8] = {};
  for (int i = 0; i < kMine; ++i) state.max[i] = -INFINITY, state.sum[i] = 0;

  const int64_t seen = block.offset() + block.first;  // the last key of the block's first query
  for (int64_t key = 0; key < seen + q.count; key += kTile) {
    const int64_t left = seen + q.count - key;
    const Rows<T> k = rows_of<T>(p.k, block.kv_begin + key, left, kv_head, p);
    const Rows<T> v = rows_of<T>(p.v, block.kv_begin + key, left, kv_head, p);
    float scores[kMine][4];
    scores_product(s, q, k, p.head_dim, scores);
    softmax_tile(scores, seen - key + thread_y() * kMine, p.scale, state, sums);
    store_weights(s, scores);
    values_product(s, v, unit.column, p.head_dim, sums);
  }
  for (int i = 0; i < kMine; ++i) {
    const int row = thread_y() * kMine + i;
    if (row >= q.count) break;
    const int64_t query = block.q_begin + block.first + row;
    store_row(sums[i], 1.0f / state.sum[i], unit.column, p.head_dim,
              head_row<T>(p.o, query, unit.head, p));
    if (p.lse && unit.column == 0 && thread_x() == 0)
      p.lse[query * p.num_heads + unit.head] = state.max[i] + logf(state.sum[i]);
  }
}

}  // namespace

AttentionRows rows() {
  return {kTile, kTile, kTile};
}

void forward(DType dtype, const AttentionParams& params, int64_t count, cudaStream_t stream) {
  const unsigned units = units_of(count, params.num_heads, parts_of(params));
  dispatch(dtype, [&](auto type) {
    attention_kernel<decltype(type)><<<units, kThreads, 0, stream>>>(params);
  });
  check(cudaGetLastError(), "attention");
}

}  // namespace weft::ops::cuda::fma
