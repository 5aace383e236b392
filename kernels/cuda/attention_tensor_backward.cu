// Backward attention (FlashAttention-2, alg. 2) on tensor cores without atomics: dq by blocks of
// queries, dk and dv by blocks of keys; both compute the probabilities again from the forward's
// lse.
#include "kernels/cuda/attention_tensor.cuh"

namespace weft::ops::cuda::tensor {
namespace {

// The part of a warp: its first row in the block's and its first column of head_dim.
template <int kDim>
struct WarpPart {
  int row;
  int column;
  __device__ WarpPart()
      : row(threadIdx.x / kWarp * kWarpRows % Backward<kDim>::kRows),
        column(threadIdx.x / kWarp * kWarpRows / Backward<kDim>::kRows * Backward<kDim>::kColumns) {
  }
};

template <class T, int kDim>
__global__ void __launch_bounds__(kThreads) backward_queries_kernel(AttentionParams p) {
  using Sizes = Backward<kDim>;
  constexpr int kTile = Sizes::kTile, kTileElements = kTile * (kDim + 8);
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  T* q = reinterpret_cast<T*>(shared_bytes);
  T* dout = q + Sizes::kRows * (kDim + 8);
  T* k = dout + Sizes::kRows * (kDim + 8);  // two tiles
  T* v = k + 2 * kTileElements;             // two tiles
  const Unit unit = unit_of(p, p.num_heads);
  const AttentionBlock& block = unit.block;
  const int64_t first = block.q_begin + block.first, left = block.q_len - block.first;
  const int64_t seen = block.offset() + block.first;  // the last key of the block's first query
  const int64_t keys = seen + min(left, int64_t{Sizes::kRows});
  const auto load_tile = [&](int64_t key, int stage) {
    const int64_t row = block.kv_begin + key;
    load_rows<kTile, kDim>(k + stage * kTileElements, p.k, row, keys - key, unit.head / p.group, p);
    load_rows<kTile, kDim>(v + stage * kTileElements, p.v, row, keys - key, unit.head / p.group, p);
  };
  load_rows<Sizes::kRows, kDim>(q, p.q, first, left, unit.head, p);
  load_rows<Sizes::kRows, kDim>(dout, p.dout, first, left, unit.head, p);
  load_tile(0, 0);

  const WarpPart<kDim> part;
  float lse[2] = {}, delta[2] = {}, dq[Sizes::kColumns / 8][4] = {};
  for (int r = 0; r < 2; ++r) {
    const int row = part.row + row_of(2 * r);
    if (row >= left) continue;
    lse[r] = p.lse[(first + row) * p.num_heads + unit.head] * kLog2e;
    delta[r] = p.delta[(first + row) * p.num_heads + unit.head];
  }
  int stage = 0;
  for (int64_t key = 0; key < keys; key += kTile, stage ^= 1) {
    mma::wait_for_copies();
    __syncthreads();
    if (key + kTile < keys) load_tile(key + kTile, stage ^ 1);
    const int64_t visible = seen + part.row - key;  // row r sees columns 0 .. visible + r
    if (part.row >= left || visible + kWarpRows <= 0) continue;
    const T* tile_k = k + stage * kTileElements;
    float scores[kTile / 8][4], dprobs[kTile / 8][4];
    scores_product<kDim, kTile>(scores, q + part.row * (kDim + 8), tile_k);
    scores_product<kDim, kTile>(dprobs, dout + part.row * (kDim + 8), v + stage * kTileElements);
    const int columns = static_cast<int>(min(visible, int64_t{kTile}));
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const bool sees = n * 8 + column_of(e) <= columns + row_of(e);
        const float prob = exp2_fast(scores[n][e] * (p.scale * kLog2e) - lse[e / 2]);
        scores[n][e] = sees ? prob * (dprobs[n][e] - delta[e / 2]) : 0.0f;
      }
    values_product<kDim, kTile, Sizes::kColumns>(dq, scores, tile_k + part.column);
  }
  __syncthreads();  // q is the staging
  store_sums<kDim, Sizes::kColumns>(
      dq, p.scale, p.scale, q + part.row * (kDim + 8) + part.column,
      destination<T>(p.dq, first + part.row, left - part.row, unit.head, part.column, p), p);
}

// Two tiles of queries with what belongs to them, in shared memory.
template <class T, int kDim>
struct QueryTiles {
  static constexpr int kTile = Backward<kDim>::kTile, kElements = kTile * (kDim + 8);
  T* q;
  T* dout;
  float* lse;
  float* delta;

  __device__ explicit QueryTiles(T* at)
      : q(at),
        dout(at + 2 * kElements),
        lse(reinterpret_cast<float*>(at + 4 * kElements)),
        delta(lse + 2 * kTile) {}

  __device__ void load(int stage, const AttentionBlock& block, int64_t query, int head,
                       const AttentionParams& p) const {
    const int64_t row = block.q_begin + query, left = block.q_len - query;
    load_rows<kTile, kDim>(q + stage * kElements, p.q, row, left, head, p);
    load_rows<kTile, kDim>(dout + stage * kElements, p.dout, row, left, head, p);
    for (int at = threadIdx.x; at < kTile; at += kThreads) {
      const bool real = at < left;
      const int64_t from = (row + (real ? at : 0)) * p.num_heads + head;
      mma::copy_4_bytes(lse + stage * kTile + at, p.lse + from, real);
      mma::copy_4_bytes(delta + stage * kTile + at, p.delta + from, real);
    }
  }
};

// Scores and dprobs of 16 keys by kTile queries become probabilities and dscores; 0 where a query
// does not see a key: queries from column `first` + r on see key r. Queries past the document's
// have zeros for q, dout, lse and delta, and so add nothing to dk and dv.
template <int kTile>
__device__ void softmax_backward_tile(float (&scores)[kTile / 8][4], float (&dprobs)[kTile / 8][4],
                                      const float* lse, const float* delta, int first,
                                      float scale) {
#pragma unroll
  for (int n = 0; n < kTile / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int column = n * 8 + column_of(e);
      const bool seen = column >= first + row_of(e);
      const float prob = exp2_fast(scores[n][e] * scale - lse[column] * kLog2e);
      scores[n][e] = seen ? prob : 0.0f;
      dprobs[n][e] = seen ? prob * (dprobs[n][e] - delta[column]) : 0.0f;
    }
}

// Rows of the tiles are keys here, columns queries.
template <class T, int kDim>
__global__ void __launch_bounds__(kThreads) backward_keys_kernel(AttentionParams p) {
  using Sizes = Backward<kDim>;
  constexpr int kTile = Sizes::kTile, kTileElements = kTile * (kDim + 8);
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  T* k = reinterpret_cast<T*>(shared_bytes);
  T* v = k + Sizes::kRows * (kDim + 8);
  const QueryTiles<T, kDim> tiles(v + Sizes::kRows * (kDim + 8));
  const Unit unit = unit_of(p, p.num_heads / p.group);
  const AttentionBlock& block = unit.block;
  const int64_t first = block.kv_begin + block.first, left = block.kv_len - block.first;
  const int64_t first_query = block.first > block.offset() ? block.first - block.offset() : 0;
  const int end_head = (unit.head + 1) * p.group;
  load_rows<Sizes::kRows, kDim>(k, p.k, first, left, unit.head, p);
  load_rows<Sizes::kRows, kDim>(v, p.v, first, left, unit.head, p);
  tiles.load(0, block, first_query, unit.head * p.group, p);

  const WarpPart<kDim> part;
  float dk[Sizes::kColumns / 8][4] = {}, dv[Sizes::kColumns / 8][4] = {};
  int stage = 0, head = unit.head * p.group;
  for (int64_t query = first_query; head < end_head; stage ^= 1) {
    mma::wait_for_copies();
    __syncthreads();
    const bool last = query + kTile >= block.q_len;  // of the head
    const int64_t next = last ? first_query : query + kTile;
    const int next_head = head + last;
    if (next_head < end_head) tiles.load(stage ^ 1, block, next, next_head, p);
    const int64_t unseen = block.first + part.row - block.offset() - query;
    if (part.row < left && unseen < kTile) {
      const T* q = tiles.q + stage * kTileElements;
      const T* dout = tiles.dout + stage * kTileElements;
      float probs[kTile / 8][4], dscores[kTile / 8][4];
      scores_product<kDim, kTile>(probs, k + part.row * (kDim + 8), q);
      scores_product<kDim, kTile>(dscores, v + part.row * (kDim + 8), dout);
      softmax_backward_tile<kTile>(
          probs, dscores, tiles.lse + stage * kTile, tiles.delta + stage * kTile,
          static_cast<int>(max(unseen, int64_t{-kWarpRows})), p.scale * kLog2e);
      values_product<kDim, kTile, Sizes::kColumns>(dv, probs, dout + part.column);
      values_product<kDim, kTile, Sizes::kColumns>(dk, dscores, q + part.column);
    }
    query = next;
    head = next_head;
  }
  __syncthreads();  // k and v are the staging
  const int staging = part.row * (kDim + 8) + part.column;
  store_sums<kDim, Sizes::kColumns>(
      dk, p.scale, p.scale, k + staging,
      destination<T>(p.dk, first + part.row, left - part.row, unit.head, part.column, p), p);
  store_sums<kDim, Sizes::kColumns>(
      dv, 1.0f, 1.0f, v + staging,
      destination<T>(p.dv, first + part.row, left - part.row, unit.head, part.column, p), p);
}

}  // namespace

void backward_queries(DType dtype, const AttentionParams& params, int64_t count,
                      cudaStream_t stream) {
  const unsigned units = units_of(count, params.num_heads);
  dispatch_tiles(dtype, params.head_dim, [&](auto type, auto dim) {
    launch(backward_queries_kernel<decltype(type), dim()>, units, Backward<dim()>::kBytes, params,
           stream);
  });
}

void backward_keys(DType dtype, const AttentionParams& params, int64_t count, cudaStream_t stream) {
  const unsigned units = units_of(count, params.num_heads / params.group);
  dispatch_tiles(dtype, params.head_dim, [&](auto type, auto dim) {
    launch(backward_keys_kernel<decltype(type), dim()>, units, Backward<dim()>::kBytes, params,
           stream);
  });
}

}  // namespace weft::ops::cuda::tensor
