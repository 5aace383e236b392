#include "core/ops/cross_entropy.h"

#include <cmath>

#include "kernels/cuda/chunks.cuh"
#include "kernels/cuda/fast_math.cuh"

namespace weft::ops::cuda {
namespace {

constexpr int kWidestBlock = 256;  // threads that share a row
constexpr int kBlocksOfSm = 4;     // of them, whose rows are at different places
constexpr int kInFlight = 4;       // chunks of a thread that are on their way

// e^x for x <= 0 or so: a few ulp of 1 for the terms that count in a softmax, 0 below 2^-126. The
// same operations everywhere, so that equal logits have equal bits.
__device__ float exp_of(float x) {
  return exp2_fast(__fmul_rn(x, kLog2e));
}

// The greatest logit so far, where the first chunk that has it starts, and the sum of
// exp(logit - max). A NaN is never the greatest. While there is none but -inf the sum is 0, or NaN.
struct Running {
  float max, sum;
  int chunk;
};

// exp(from - to) for from <= to, 1 also where both are the same infinity.
__device__ float rescale(float from, float to) {
  return from == to ? 1.0f : exp_of(from - to);
}

__device__ Running merge(const Running& a, const Running& b) {
  Running both;
  both.max = fmaxf(a.max, b.max);
  both.sum = a.sum * rescale(a.max, both.max) + b.sum * rescale(b.max, both.max);
  both.chunk = a.max > b.max ? a.chunk : b.max > a.max ? b.chunk : min(a.chunk, b.chunk);
  return both;
}

// Takes the first `left` logits of a chunk that starts at `place`.
template <class T>
__device__ void take_chunk(Running& running, const Chunk<T>& chunk, int place, int64_t left) {
  float x[kChunk<T>], greatest = -INFINITY;
  to_floats<T>(x, chunk);
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j) {
    if (j >= left) x[j] = -INFINITY;
    greatest = fmaxf(greatest, x[j]);
  }
  if (greatest > running.max) {
    running.sum = __fmul_rn(running.sum, rescale(running.max, greatest));
    running.max = greatest;
    running.chunk = place;
  }
  const float shift = running.max == -INFINITY ? 0.0f : running.max;
  float sum = 0;
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j) sum += exp_of(x[j] - shift);
  running.sum += sum;
}

// What this thread sees of a row: chunks threadIdx.x, threadIdx.x + blockDim.x, ... in order. Each
// chunk's place is loaded anew before the chunk is used; until then it stays a uint4, as the
// compiler would wait for it to take a Chunk apart.
template <bool kAligned, class T>
__device__ Running take_row(const T* row, int width) {
  constexpr int kCount = kChunk<T>;
  Running running{-INFINITY, 0.0f, 0};
  const int step = static_cast<int>(blockDim.x) * kCount, whole = width - width % kCount;
  const int first = static_cast<int>(threadIdx.x) * kCount;
  const auto load = [&](int place) {
    const Chunk<T> chunk = load_chunk<kAligned>(row + place, kCount);
    return *reinterpret_cast<const uint4*>(&chunk);
  };
  uint4 coming[kInFlight];
#pragma unroll
  for (int k = 0; k < kInFlight; ++k)
    if (first + k * step < whole) coming[k] = load(first + k * step);
  for (int i = first; i < whole; i += kInFlight * step) {
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      const int place = i + k * step, next = place + kInFlight * step;
      const uint4 here = coming[k];
      if (next < whole) coming[k] = load(next);
      if (place < whole)
        take_chunk(running, *reinterpret_cast<const Chunk<T>*>(&here), place, kCount);
    }
  }
  if (whole < width &&
      whole / kCount % static_cast<int>(blockDim.x) == static_cast<int>(threadIdx.x))
    take_chunk(running, load_chunk<false>(row + whole, width - whole), whole, width - whole);
  return running;
}

// Lane 0 has what the warp's lanes have; those from `lanes` (a power of 2) on say nothing.
__device__ Running merge_warp(Running mine, int lanes = kWarp) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    if (offset >= lanes) continue;
    Running other;
    other.max = __shfl_down_sync(0xffffffffu, mine.max, offset);
    other.sum = __shfl_down_sync(0xffffffffu, mine.sum, offset);
    other.chunk = __shfl_down_sync(0xffffffffu, mine.chunk, offset);
    mine = merge(mine, other);
  }
  return mine;
}

// The lowest place of the greatest logit; 0 where none is greater than -inf.
template <class T>
__device__ int place_of_max(const Running& of_row, const T* row, int width) {
  int place = of_row.chunk;
  if (of_row.max == -INFINITY) return place;
  const Chunk<T> chunk = load_chunk<false>(row + of_row.chunk, width - of_row.chunk);
#pragma unroll
  for (int j = kChunk<T> - 1; j >= 0; --j)
    if (of_row.chunk + j < width && to_float(chunk.at[j]) == of_row.max) place = of_row.chunk + j;
  return place;
}

// The label's place in a row of `width` logits from vocab_begin on, or -1.
__device__ int64_t place_of(int32_t label, int64_t vocab_begin, int64_t width) {
  const int64_t at = label - vocab_begin;
  return label != kIgnoredLabel && at >= 0 && at < width ? at : -1;
}

template <class T>
struct Logits {
  T* values;  // [rows, width]
  const int32_t* labels;
  int64_t rows, width, vocab_begin;
};

struct Stats {
  float* max;
  float* sum_exp;
  float* label_logit;
  int32_t* argmax;
};

// A block a row.
template <class T>
__global__ void __launch_bounds__(kWidestBlock, kBlocksOfSm)
    logits_stats_kernel(Logits<const T> logits, Stats stats) {
  constexpr int kWarps = kWidestBlock / kWarp;
  __shared__ Running warps[kWarps];
  const int64_t c = blockIdx.x;
  const T* row = logits.values + c * logits.width;
  const auto width = static_cast<int>(logits.width);
  const int64_t label = place_of(logits.labels[c], logits.vocab_begin, logits.width);
  const float label_logit = label < 0 || threadIdx.x != 0 ? 0.0f : to_float(row[label]);
  const Running of_thread =
      is_aligned(row) ? take_row<true>(row, width) : take_row<false>(row, width);
  const Running of_warp = merge_warp(of_thread);
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = of_warp;
  __syncthreads();
  if (threadIdx.x >= kWarp) return;
  const bool has_warp = threadIdx.x < blockDim.x / kWarp;
  const Running of_row =
      merge_warp(has_warp ? warps[threadIdx.x] : Running{-INFINITY, 0.0f, 0}, kWarps);
  if (threadIdx.x != 0) return;
  stats.max[c] = of_row.max;
  stats.sum_exp[c] = of_row.sum;
  stats.label_logit[c] = label_logit;
  stats.argmax[c] = static_cast<int32_t>(logits.vocab_begin + place_of_max(of_row, row, width));
}

__global__ void token_loss_kernel(Stats stats, const int32_t* labels, float* loss, float* lse,
                                  int64_t count) {
  for (int64_t c = first_item(); c < count; c += item_stride()) {
    const float of_row = stats.max[c] + logf(stats.sum_exp[c]);
    lse[c] = of_row;
    loss[c] = labels[c] == kIgnoredLabel ? 0.0f : of_row - stats.label_logit[c];
  }
}

// The `left` logits of a chunk become their gradient; `label` is the label's place in it, or
// outside of it.
template <bool kAligned, class T>
__device__ void dlogits_chunk(T* at, int64_t left, float lse, float scale, int64_t label) {
  float x[kChunk<T>];
  load_floats<kAligned>(x, at, left);
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j) x[j] = exp_of(x[j] - lse);
  if (label >= 0 && label < kChunk<T>) {
#pragma unroll
    for (int j = 0; j < kChunk<T>; ++j)
      if (j == label) x[j] -= 1.0f;
  }
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j) x[j] *= scale;
  store_floats<kAligned>(at, x, left);
}

template <class T>
__global__ void dlogits_kernel(Logits<T> logits, const float* lse, const float* factor) {
  constexpr int kCount = kChunk<T>;
  const float zeros[kCount] = {};
  const float scale = *factor;
  for (int64_t c = first_row(); c < logits.rows; c += row_stride()) {
    T* row = logits.values + c * logits.width;
    const bool aligned = is_aligned(row), scored = logits.labels[c] != kIgnoredLabel;
    const int64_t label = place_of(logits.labels[c], logits.vocab_begin, logits.width);
    const float of_row = lse[c];
    for (int64_t i = first_item() * kCount; i < logits.width; i += item_stride() * kCount) {
      const int64_t left = logits.width - i, label_in = label < 0 ? -1 : label - i;
      const bool by_vector = aligned && left >= kCount;
      if (scored && by_vector)
        dlogits_chunk<true>(row + i, left, of_row, scale, label_in);
      else if (scored)
        dlogits_chunk<false>(row + i, left, of_row, scale, label_in);
      else if (by_vector)
        store_floats<true>(row + i, zeros, left);
      else
        store_floats<false>(row + i, zeros, left);
    }
  }
}

Stats pointers_of(const LogitsStats& stats) {
  return {pointer<float>(stats.max), pointer<float>(stats.sum_exp),
          pointer<float>(stats.label_logit), pointer<int32_t>(stats.argmax)};
}

void check_width(const Tensor& logits) {
  CHECK(logits.dim(1) < (int64_t{1} << 30) && logits.dim(0) < (int64_t{1} << 31),
        "[cross_entropy] logits {}", logits.shape().to_string());
}

}  // namespace

void logits_stats(const Tensor& logits, const Tensor& labels, int64_t vocab_begin,
                  const LogitsStats& stats) {
  if (logits.dim(0) == 0) return;
  check_width(logits);
  const cudaStream_t stream = stream_on(logits.device());
  dispatch(logits.dtype(), [&](auto type) {
    using T = decltype(type);
    const int64_t wanted = divide_up(divide_up(logits.dim(1), kChunk<T>), kWarp) * kWarp;
    const auto threads = static_cast<unsigned>(wanted < kWarp          ? kWarp
                                               : wanted < kWidestBlock ? wanted
                                                                       : kWidestBlock);
    logits_stats_kernel<T><<<static_cast<unsigned>(logits.dim(0)), threads, 0, stream>>>(
        Logits<const T>{pointer<const T>(logits), pointer<const int32_t>(labels), logits.dim(0),
                        logits.dim(1), vocab_begin},
        pointers_of(stats));
  });
  check(cudaGetLastError(), "logits_stats");
}

void token_loss(const LogitsStats& stats, const Tensor& labels, const TokenLoss& result) {
  const int64_t count = labels.dim(0);
  if (count == 0) return;
  token_loss_kernel<<<blocks_for(count), kThreads, 0, stream_on(labels.device())>>>(
      pointers_of(stats), pointer<const int32_t>(labels), pointer<float>(result.loss),
      pointer<float>(result.lse), count);
  check(cudaGetLastError(), "token_loss");
}

void dlogits_in_place(const Tensor& logits, const Tensor& labels, const Tensor& lse,
                      const Tensor& scale, int64_t vocab_begin) {
  if (logits.numel() == 0) return;
  check_width(logits);
  const cudaStream_t stream = stream_on(logits.device());
  dispatch(logits.dtype(), [&](auto type) {
    using T = decltype(type);
    constexpr int64_t kPerThread = 4;  // chunks of a row
    const RowGrid over = over_rows(logits.dim(0), divide_up(logits.dim(1), kPerThread * kChunk<T>));
    dlogits_kernel<<<over.grid, over.block, 0, stream>>>(
        Logits<T>{pointer<T>(logits), pointer<const int32_t>(labels), logits.dim(0), logits.dim(1),
                  vocab_begin},
        pointer<const float>(lse), pointer<const float>(scale));
  });
  check(cudaGetLastError(), "dlogits_in_place");
}

}  // namespace weft::ops::cuda
