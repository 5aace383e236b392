#include "kernels/cuda/attention_tensor.cuh"

namespace weft::ops::cuda::tensor {
namespace {

// The running softmax of a lane's two rows, in powers of two. The four lanes of a row hold the same
// max, and each the sum of its own columns.
struct Softmax {
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};
};

__device__ float max_of_row(float x) {
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
  return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}
__device__ float sum_of_row(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}

// scores become 2^(score - max), 0 past the key that a row sees last; row r of the warp sees
// columns 0 .. visible + r of the tile, and each row sees some column of the first. `scale` turns
// scores into powers of two. Returns what the sums so far must be multiplied with.
template <int kTile>
__device__ float2 softmax_tile(float (&scores)[kTile / 8][4], int visible, float scale,
                               Softmax& state) {
  const float old[2] = {state.max[0], state.max[1]};
#pragma unroll
  for (int n = 0; n < kTile / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const bool seen = n * 8 + column_of(e) <= visible + row_of(e);
      scores[n][e] = seen ? scores[n][e] * scale : -INFINITY;
      state.max[e / 2] = fmaxf(state.max[e / 2], scores[n][e]);
    }
  float rescale[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    state.max[r] = max_of_row(state.max[r]);
    rescale[r] = exp2_fast(old[r] - state.max[r]);
    state.sum[r] *= rescale[r];
  }
#pragma unroll
  for (int n = 0; n < kTile / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      scores[n][e] = exp2_fast(scores[n][e] - state.max[e / 2]);
      state.sum[e / 2] += scores[n][e];
    }
  return {rescale[0], rescale[1]};
}

template <int kColumns>
__device__ void rescale_sums(float (&sums)[kColumns / 8][4], float2 scale) {
#pragma unroll
  for (int n = 0; n < kColumns / 8; ++n) {
    sums[n][0] *= scale.x;
    sums[n][1] *= scale.x;
    sums[n][2] *= scale.y;
    sums[n][3] *= scale.y;
  }
}

// log of the softmax's denominator of the lane's two rows.
__device__ void store_lse(const Softmax& state, const Destination<float>& to) {
  if (lane() % 4 != 0) return;
  for (int r = 0; r < 2; ++r)
    if (row_of(2 * r) < to.rows)
      to.data[row_of(2 * r) * to.stride] = (state.max[r] + log2f(state.sum[r])) * kLn2;
}

template <class T, int kDim>
__global__ void __launch_bounds__(kThreads) attention_kernel(AttentionParams p) {
  using Sizes = Forward<kDim>;
  constexpr int kTile = Sizes::kTile, kTileElements = kTile * (kDim + 8);
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  T* q = reinterpret_cast<T*>(shared_bytes);
  T* k = q + Sizes::kRows * (kDim + 8);  // two tiles
  T* v = k + 2 * kTileElements;          // two tiles
  const Unit unit = unit_of(p, p.num_heads);
  const AttentionBlock& block = unit.block;
  const int64_t left = block.q_len - block.first;
  const int64_t seen = block.offset() + block.first;  // the last key of the block's first query
  const int64_t keys = seen + min(left, int64_t{Sizes::kRows});
  const auto load_tile = [&](int64_t key, int stage) {
    const int64_t row = block.kv_begin + key;
    load_rows<kTile, kDim>(k + stage * kTileElements, p.k, row, keys - key, unit.head / p.group, p);
    load_rows<kTile, kDim>(v + stage * kTileElements, p.v, row, keys - key, unit.head / p.group, p);
  };
  load_rows<Sizes::kRows, kDim>(q, p.q, block.q_begin + block.first, left, unit.head, p);
  load_tile(0, 0);

  const int warp_row = threadIdx.x / kWarp * kWarpRows;
  T* warp_q = q + warp_row * (kDim + 8);
  Softmax state;
  float sums[kDim / 8][4] = {};
  int stage = 0;
  for (int64_t key = 0; key < keys; key += kTile, stage ^= 1) {
    mma::wait_for_copies();
    __syncthreads();
    if (key + kTile < keys) load_tile(key + kTile, stage ^ 1);
    const int64_t visible = seen + warp_row - key;
    if (warp_row >= left || visible + kWarpRows <= 0) continue;  // no row of the warp sees any
    float scores[kTile / 8][4];
    scores_product<kDim, kTile>(scores, warp_q, k + stage * kTileElements);
    const int columns = static_cast<int>(min(visible, int64_t{kTile}));
    rescale_sums<kDim>(sums, softmax_tile<kTile>(scores, columns, p.scale * kLog2e, state));
    values_product<kDim, kTile, kDim>(sums, scores, v + stage * kTileElements);
  }

  const int64_t row = block.q_begin + block.first + warp_row;
  const Destination<T> o = destination<T>(p.o, row, left - warp_row, unit.head, 0, p);
  for (float& sum : state.sum) sum = sum_of_row(sum);
  store_sums<kDim, kDim>(sums, 1.0f / state.sum[0], 1.0f / state.sum[1], warp_q, o, p);
  if (p.lse) store_lse(state, {p.lse + row * p.num_heads + unit.head, p.num_heads, o.rows, 0});
}

}  // namespace

bool takes(const AttentionArgs& args) {
  if (args.dtype == DType::f32 || args.shape.head_dim > 256) return false;
  if (!device_memory::has_bf16(args.device.index)) return false;  // before 8.0: see tensor_core.cuh
  int shared_bytes = 0;
  check(cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin,
                               args.device.index),
        "attention");
  return shared_bytes >= kSharedLimit;
}

AttentionRows rows(int64_t head_dim) {
  if (head_dim <= 128) return {Forward<128>::kRows, Backward<128>::kRows, Backward<128>::kRows};
  return {Forward<256>::kRows, Backward<256>::kRows, Backward<256>::kRows};
}

void forward(DType dtype, const AttentionParams& params, int64_t count, cudaStream_t stream) {
  const unsigned units = units_of(count, params.num_heads);
  dispatch_tiles(dtype, params.head_dim, [&](auto type, auto dim) {
    launch(attention_kernel<decltype(type), dim()>, units, Forward<dim()>::kBytes, params, stream);
  });
}

}  // namespace weft::ops::cuda::tensor
