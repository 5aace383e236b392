// Tiles of attention on tensor cores. A block of 8 warps; a warp has 16 rows of a tile of scores,
// whose result in registers is the left operand of the product with the values: scores never touch
// memory. Rows lie in shared memory kDim + 8 apart, which spreads them over the banks.
#pragma once

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/fast_math.cuh"
#include "kernels/cuda/tensor_core.cuh"

namespace weft::ops::cuda::tensor {

constexpr int kWarps = kThreads / kWarp;
constexpr int kWarpRows = 16;
constexpr float kLn2 = 0.69314718f;
constexpr int kSharedLimit =
    144 * 1024;  // of a block; A100, H100, B200 have more, desktops' GPUs less

// How a head of at most kDim is cut; head_dim is padded with zeros to it.
template <int kDim>
struct Forward {
  static constexpr int kRows = kWarps * kWarpRows;     // queries
  static constexpr int kTile = kDim <= 128 ? 64 : 32;  // keys
  static constexpr int kBytes = (kRows + 4 * kTile) * (kDim + 8) * 2;
  static_assert(kBytes <= kSharedLimit);
};
// The sums of more than 128 columns do not fit the registers: kParts warps share their rows and
// have a part of the columns each.
template <int kDim>
struct Backward {
  static constexpr int kParts = kDim <= 128 ? 1 : 2;
  static constexpr int kColumns = kDim / kParts;
  static constexpr int kRows = kWarps * kWarpRows / kParts;  // queries for dq, else keys
  static constexpr int kTile = kDim <= 128 ? 64 : 32;        // of the other
  static constexpr int kBytes =
      (2 * kRows + 4 * kTile) * (kDim + 8) * 2 + 4 * kTile * static_cast<int>(sizeof(float));
  static_assert(kBytes <= kSharedLimit);
};

// What a thread block computes.
struct Unit {
  AttentionBlock block;
  int head;
};
__device__ inline Unit unit_of(const AttentionParams& p, int heads) {
  return {p.blocks[blockIdx.x / heads], static_cast<int>(blockIdx.x % heads)};
}
__device__ inline int lane() {
  return threadIdx.x % kWarp;
}
// Of element e of a lane's part of a 16 x 8 result.
__device__ inline int row_of(int e) {
  return lane() / 4 + e / 2 * 8;
}
__device__ inline int column_of(int e) {
  return lane() % 4 * 2 + e % 2;
}

// Copies rows [row, row + min(kRows, left)) of a head to shared memory, zeros after them and after
// head_dim. They are there after wait_for_copies and __syncthreads.
template <int kRows, int kDim, class T>
__device__ void load_rows(T* to, const HeadsView& view, int64_t row, int64_t left, int head,
                          const AttentionParams& p) {
  const T* from = head_row<const T>(view, row, head, p);
  if (p.vectors) {
    for (int at = threadIdx.x; at < kRows * kDim / 8; at += kThreads) {
      const int r = at / (kDim / 8), d = at % (kDim / 8) * 8;
      const bool real = r < left && d < p.head_dim;
      mma::copy_16_bytes(to + r * (kDim + 8) + d, real ? from + r * view.row_stride + d : from,
                         real);
    }
    return;
  }
  for (int at = threadIdx.x; at < kRows * kDim; at += kThreads) {
    const int r = at / kDim, d = at % kDim;
    const bool real = r < left && d < p.head_dim;
    to[r * (kDim + 8) + d] = real ? from[r * view.row_stride + d] : from_float<T>(0.0f);
  }
}

// scores = the warp's 16 rows of a times kTile rows of b, over kDim.
template <int kDim, int kTile, class T>
__device__ void scores_product(float (&scores)[kTile / 8][4], const T* a, const T* b) {
  constexpr int kStride = kDim + 8;
  const T* left_row = a + lane() % 16 * kStride + lane() / 16 * 8;
  const T* right_row = b + (lane() % 8 + lane() / 16 * 8) * kStride + lane() / 8 % 2 * 8;
#pragma unroll
  for (int n = 0; n < kTile / 8; ++n)
    for (float& x : scores[n]) x = 0;
#pragma unroll
  for (int d = 0; d < kDim; d += 16) {
    unsigned left[4], right[4];
    mma::load_matrices(left, left_row + d);
#pragma unroll
    for (int n = 0; n < kTile; n += 16) {
      mma::load_matrices(right, right_row + n * kStride + d);
      mma::product(scores[n / 8], left, right[0], right[1], T());
      mma::product(scores[n / 8 + 1], left, right[2], right[3], T());
    }
  }
}

// sums += the warp's weights (rounded to T) times kTile rows of kColumns values.
template <int kDim, int kTile, int kColumns, class T>
__device__ void values_product(float (&sums)[kColumns / 8][4], const float (&weights)[kTile / 8][4],
                               const T* values) {
  constexpr int kStride = kDim + 8;
  const T* right_row = values + lane() % 16 * kStride + lane() / 16 * 8;
#pragma unroll
  for (int n = 0; n < kTile / 8; n += 2) {
    const float(&w)[4] = weights[n], (&next)[4] = weights[n + 1];
    const unsigned left[4] = {mma::pack<T>(w[0], w[1]), mma::pack<T>(w[2], w[3]),
                              mma::pack<T>(next[0], next[1]), mma::pack<T>(next[2], next[3])};
#pragma unroll
    for (int d = 0; d < kColumns; d += 16) {
      unsigned right[4];
      mma::load_matrices_transposed(right, right_row + n * 8 * kStride + d);
      mma::product(sums[d / 8], left, right[0], right[1], T());
      mma::product(sums[d / 8 + 1], left, right[2], right[3], T());
    }
  }
}

// Where a warp leaves its sums: `rows` rows of a head, from column `column`.
template <class T>
struct Destination {
  T* data;
  int64_t stride;
  int rows;
  int column;
};

// Stores sums x scale (of the lane's two rows) by way of `staging`, shared memory of the warp's own
// for 16 rows.
template <int kDim, int kColumns, class T>
__device__ void store_sums(const float (&sums)[kColumns / 8][4], float scale_0, float scale_1,
                           T* staging, const Destination<T>& to, const AttentionParams& p) {
  constexpr int kStride = kDim + 8;
  __syncwarp();  // other lanes have read what lay there
#pragma unroll
  for (int n = 0; n < kColumns / 8; ++n) {
    T* at = staging + row_of(0) * kStride + n * 8 + column_of(0);
    *reinterpret_cast<unsigned*>(at) = mma::pack<T>(sums[n][0] * scale_0, sums[n][1] * scale_0);
    *reinterpret_cast<unsigned*>(at + 8 * kStride) =
        mma::pack<T>(sums[n][2] * scale_1, sums[n][3] * scale_1);
  }
  __syncwarp();
  const int columns = p.head_dim - to.column;  // real ones; may be more than kColumns or none
  const int step = p.vectors ? 8 : 1;
  for (int at = lane(); at < kWarpRows * kColumns / step; at += kWarp) {
    const int row = at / (kColumns / step), d = at % (kColumns / step) * step;
    if (row >= to.rows || d >= columns) continue;
    const T* from = staging + row * kStride + d;
    T* target = to.data + row * to.stride + to.column + d;
    if (p.vectors)
      *reinterpret_cast<uint4*>(target) = *reinterpret_cast<const uint4*>(from);
    else
      *target = *from;
  }
  __syncwarp();
}

// The destination of a warp's rows of a block's head, of which `left` from row `first` exist.
template <class T>
__device__ Destination<T> destination(const HeadsView& view, int64_t row, int64_t left, int head,
                                      int column, const AttentionParams& p) {
  const int rows = left < 0 ? 0 : left > kWarpRows ? kWarpRows : static_cast<int>(left);
  return {head_row<T>(view, row, head, p), view.row_stride, rows, column};
}

// Calls f(T(), std::integral_constant<int, kDim>()) for bf16 or f16 and the smallest kDim.
template <class F>
void dispatch_tiles(DType dtype, int64_t head_dim, F&& f) {
  const auto with_dim = [&](auto type) {
    if (head_dim <= 64) return f(type, std::integral_constant<int, 64>());
    if (head_dim <= 128) return f(type, std::integral_constant<int, 128>());
    return f(type, std::integral_constant<int, 256>());
  };
  dtype == DType::bf16 ? with_dim(__nv_bfloat16()) : with_dim(__half());
}

inline void launch(void (*kernel)(AttentionParams), unsigned units, int shared_bytes,
                   const AttentionParams& params, cudaStream_t stream) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes),
        "attention");
  kernel<<<units, kThreads, shared_bytes, stream>>>(params);
  check(cudaGetLastError(), "attention");
}

}  // namespace weft::ops::cuda::tensor
