// RMSNorm over rows that may lie inside wider ones (the heads of a fused qkv): a team of threads
// takes a row and keeps up to kKept chunks of it a thread in registers; what is wider is read
// again. Nothing here depends on more than the shape, so bits repeat.
#pragma once

#include "kernels/cuda/chunks.cuh"

namespace weft::ops::cuda {

constexpr int kKept = 4;             // chunks a thread keeps
constexpr int kWidestBlock = 512;    // threads of a block that takes one row
constexpr int64_t kRowBlocks = 512;  // blocks that share the rows of a backward, at most

struct Rows {
  int64_t count = 0;
  int64_t width = 0;
  int64_t per_token = 1;  // heads
  int64_t token_stride = 0;
  int64_t begin = 0;  // first row's place in a token's
  __device__ int64_t at(int64_t row) const {
    if (per_token == 1) return row * token_stride + begin;
    const auto heads = static_cast<unsigned>(per_token);
    const unsigned token = static_cast<unsigned>(row) / heads;
    const unsigned head = static_cast<unsigned>(row) - token * heads;
    return token * token_stride + begin + head * width;
  }
};

// Threads of a block and of a team: a part of a warp, or the block.
struct Teams {
  int threads = kThreads, lanes = 1;
  int count() const { return threads / lanes; }
};
inline Teams teams_for(int64_t width, int chunk) {
  const int64_t need = divide_up(divide_up(width, chunk), kKept);
  Teams teams;
  while (teams.lanes < need && teams.lanes < kWarp) teams.lanes *= 2;
  if (need <= kWarp) return teams;
  const int64_t threads = divide_up(need, kWarp) * kWarp;
  teams.lanes = static_cast<int>(threads < kWidestBlock ? threads : kWidestBlock);
  return {teams.lanes, teams.lanes};
}

// A thread's part of a row: chunks lane, lane + lanes, ...
struct Part {
  int lane, lanes;
  int64_t width;
  template <class T>
  __device__ int64_t kept(int k) const {
    return int64_t{lane + k * lanes} * kChunk<T>;
  }
  // The first element that is not kept, and the way to the next.
  template <class T>
  __device__ int64_t rest() const {
    return kept<T>(kKept);
  }
  template <class T>
  __device__ int64_t step() const {
    return int64_t{lanes} * kChunk<T>;
  }
};

// Sum over the team, the same order always; every thread of it has it. A team of more than a warp
// is the block.
__device__ inline float team_sum(float value, int lanes, float* scratch) {
  if (lanes > kWarp) return block_sum(value, scratch);
  const unsigned lane = threadIdx.x % kWarp;
  const unsigned all = lanes == kWarp ? 0xffffffffu : (1u << lanes) - 1u;
  const unsigned team = all << (lane / lanes * lanes);
  for (int offset = lanes / 2; offset > 0; offset /= 2)
    value += __shfl_xor_sync(team, value, offset);
  return value;
}

// Chunks of a row that are kept; 0 behind its end.
template <bool kAligned, class T>
__device__ void load_kept(Chunk<T> (&kept)[kKept], const T* row, const Part& part) {
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    const int64_t i = part.kept<T>(k);
    kept[k] = Chunk<T>{};
    if (i < part.width) kept[k] = load_chunk<kAligned>(row + i, part.width - i);
  }
}

template <class T>
__device__ float add_squares(const Chunk<T>& x, float sum) {
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j) sum += to_float(x.at[j]) * to_float(x.at[j]);
  return sum;
}

// Rounded to T.
template <class T>
__device__ Chunk<T> add(const Chunk<T>& x, const Chunk<T>& y) {
  Chunk<T> sum;
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j)
    sum.at[j] = from_float<T>(to_float(x.at[j]) + to_float(y.at[j]));
  return sum;
}

// y = x * rstd * weight: the one place that makes y, so that a rebuild has the same bits.
template <bool kAligned, class T, class W>
__device__ void normalise(const Chunk<T>& x, float rstd, const W* weight, T* y, int64_t left) {
  float w[kChunk<T>];
  load_floats<kAligned>(w, weight, left);
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j) w[j] = __fmul_rn(__fmul_rn(to_float(x.at[j]), rstd), w[j]);
  store_floats<kAligned>(y, w, left);
}

// Calls f(x's type, weight's type).
template <class F>
void dispatch_types(const Tensor& x, const Tensor& weight, F&& f) {
  dispatch(x.dtype(), [&](auto type) {
    if (weight.dtype() == DType::f32)
      f(type, float());
    else
      f(type, type);
  });
}

// Whether chunks of rows are aligned in tensors of these addresses (null where undefined).
template <class T, class... Pointer>
bool rows_are_aligned(const Rows& rows, const Pointer*... pointers) {
  const bool places = rows.width % kChunk<T> == 0 && rows.token_stride % kChunk<T> == 0 &&
                      rows.begin % kChunk<T> == 0;
  return places && (is_aligned(pointers) && ...);
}

}  // namespace weft::ops::cuda
