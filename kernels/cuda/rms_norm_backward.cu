#include "core/ops/rms_norm.h"
#include "kernels/cuda/add_partials.cuh"
#include "kernels/cuda/rms_norm_rows.cuh"

namespace weft::ops::cuda {
namespace {

constexpr int64_t kRowsOfTeam = 4;  // at least, before more blocks share the rows

template <class T, class W>
struct Backward {
  const T* dy;
  const T* x;
  const T* dresidual;  // may be null
  const W* weight;
  const float* rstd;
  T* dx;
  float* partials;  // [blocks, width] =: dweight of each block's rows; null where it is frozen
};

// What a row has beyond its kept chunks; `partial` (may be null) takes its dweight.
template <bool kAligned, class T, class W>
__device__ float along_rest(const Backward<T, W>& b, int64_t at, const Part& part, float sum) {
  for (int i = part.rest<T>(); i < part.width; i += part.step<T>()) {
    const int left = part.width - i;
    sum = add_along_x<kAligned>(load_chunk<kAligned>(b.dy + at + i, left),
                                load_chunk<kAligned>(b.x + at + i, left), b.weight + i, left, sum);
  }
  return sum;
}
template <bool kAligned, class T, class W>
__device__ void store_rest(const Backward<T, W>& b, RowScale scale, int64_t at, const Part& part,
                           float* partial) {
  for (int i = part.rest<T>(); i < part.width; i += part.step<T>()) {
    const int left = part.width - i;
    const Chunk<T> dy = load_chunk<kAligned>(b.dy + at + i, left);
    const Chunk<T> x = load_chunk<kAligned>(b.x + at + i, left);
    Chunk<T> more{};
    if (b.dresidual) more = load_chunk<kAligned>(b.dresidual + at + i, left);
    store_dx<kAligned>(dy, x, more, b.weight + i, scale, b.dx + at + i, left);
    if (!partial) continue;
    float sum[kChunk<T>];
    load_floats<kAligned>(sum, partial + i, left);
    add_dweight(dy, x, scale.rstd, sum);
    store_floats<kAligned>(partial + i, sum, left);
  }
}

// The kept chunks of a row, all on their way before the first is used.
template <int kKept, class T>
struct Kept {
  Chunk<T> dy[kKept], x[kKept], more[kKept];

  template <bool kAligned, class W>
  __device__ void load(const Backward<T, W>& b, int64_t at, const Part& part) {
    load_kept<kAligned>(dy, b.dy + at, part);
    load_kept<kAligned>(x, b.x + at, part);
#pragma unroll
    for (int k = 0; k < kKept; ++k) more[k] = Chunk<T>{};
    if (b.dresidual) load_kept<kAligned>(more, b.dresidual + at, part);
  }
};

// For wide rows: of those an SM holds few, which leave memory idle while they sum.
template <class T, class W>
__device__ void prefetch(const Backward<T, W>& b, int64_t at, const Part& part) {
  prefetch_row(b.dy + at, part);
  prefetch_row(b.x + at, part);
  if (b.dresidual) prefetch_row(b.dresidual + at, part);
}

// partial[width] = the sum over the block's teams, in their order. `shared` holds a row a team.
template <int kKept, int kCount>
__device__ void store_partial(const float (&sums)[kKept][kCount], const Part& part, float* shared,
                              float* partial) {
  const int teams = blockDim.x / part.lanes;
  float* mine = teams == 1 ? partial : shared + threadIdx.x / part.lanes * part.width;
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    const int i = (part.lane + k * part.lanes) * kCount;
#pragma unroll
    for (int j = 0; j < kCount; ++j)
      if (i + j < part.width) mine[i + j] = sums[k][j];
  }
  if (teams == 1) return;
  __syncthreads();
  for (int i = threadIdx.x; i < part.width; i += blockDim.x) {
    float sum = 0;
    for (int team = 0; team < teams; ++team) sum += shared[team * part.width + i];
    partial[i] = sum;
  }
}

// Threads that an SM holds at once, as the registers of a thread allow.
constexpr int threads_of_sm(int kept) {
  return kept == 2 ? 768 : kept == 3 ? 640 : 512;
}

template <int kKept, bool kAligned, bool kFrozen, class T, class W>
__global__ void __launch_bounds__(kBlockBound<kKept>,
                                  kAligned ? threads_of_sm(kKept) / kBlockBound<kKept> : 1)
    rms_norm_backward_kernel(Backward<T, W> b, Rows rows, int lanes) {
  constexpr bool kRest = kKept == kMostKept;
  __shared__ Scratch scratch;
  extern __shared__ float sums_of_teams[];
  wait_for_kernel_before();
  const Part part = part_of<kKept>(rows, lanes);
  float* partial = kFrozen ? nullptr : b.partials + blockIdx.x * rows.width;
  float sums[kKept][kChunk<T>] = {};
  if constexpr (kRest && !kFrozen)  // a rest has one team, whose threads keep to their own chunks
    for (int i = part.rest<T>(); i < part.width; i += part.step<T>())
      for (int j = i; j < part.width && j < i + kChunk<T>; ++j) partial[j] = 0;
  const int64_t step = rows_of_round(part.lanes);
  int round = 0;
  for (int64_t r = first_row_of_team(part.lanes); r < rows.count; r += step, ++round) {
    const int64_t at = r * rows.width;
    Kept<kKept, T> row;
    row.template load<kAligned>(b, at, part);
    RowScale scale{b.rstd[r], 0};
    if (kRest && part.lanes > kTeamsBlock && r + step < rows.count)
      prefetch(b, at + step * rows.width, part);
#pragma unroll
    for (int k = 0; k < kKept; ++k) {
      const int i = part.kept<T>(k);
      if (i < part.width)
        scale.along =
            add_along_x<kAligned>(row.dy[k], row.x[k], b.weight + i, part.width - i, scale.along);
    }
    if constexpr (kRest) scale.along = along_rest<kAligned>(b, at, part, scale.along);
    keep_packed(row.dy);
    keep_packed(row.x);
    keep_packed(row.more);
    scale.along = team_sum(scale.along, part.lanes, scratch, round) * scale.rstd /
                  static_cast<float>(part.width);
    T* const dx = part.first_of(b.dx + at);
#pragma unroll
    for (int k = 0; k < kKept; ++k) {
      const int i = part.kept<T>(k);
      if (i < part.width)
        store_dx<kAligned>(row.dy[k], row.x[k], row.more[k], b.weight + i, scale, b.dx + at + i,
                           part.width - i);
      if constexpr (!kFrozen) add_dweight(row.dy[k], row.x[k], scale.rstd, sums[k]);
    }
    if constexpr (kRest) store_rest<kAligned>(b, scale, at, part, partial);
  }
  if constexpr (!kFrozen) store_partial(sums, part, sums_of_teams, partial);
}

template <bool kFrozen, class T, class W>
void launch_rows(const Backward<T, W>& b, const Rows& rows, int64_t blocks, cudaStream_t stream) {
  const Teams teams = teams_for(rows.width, kChunk<T>);
  const size_t shared = kFrozen || teams.count() == 1
                            ? 0
                            : static_cast<size_t>(teams.count() * rows.width) * sizeof(float);
  const bool aligned = rows_are_aligned<T>(rows, b.dy, b.x, b.dresidual, b.weight, b.dx);
  with_path(teams.kept, aligned, [&](auto kept, auto aligned_type) {
    launch_behind(rms_norm_backward_kernel<decltype(kept)::value, decltype(aligned_type)::value,
                                           kFrozen, T, W>,
                  static_cast<unsigned>(blocks), teams.threads, shared, stream, b, rows,
                  teams.lanes);
  });
  check(cudaGetLastError(), "rms_norm_backward");
}

// Fills b.partials and launches.
template <class T, class W>
void launch_backward(Backward<T, W> b, const Rows& rows, const Tensor& dweight, Device device) {
  CHECK(rows.count < (int64_t{1} << 31), "[rms_norm_backward] {} rows", rows.count);
  const cudaStream_t stream = stream_on(device);
  const Teams teams = teams_for(rows.width, kChunk<T>);
  const int64_t blocks = blocks_of_rows(rows.count, teams, threads_of_sm(teams.kept),
                                        dweight.defined() ? kRowsOfTeam : 1);
  if (!dweight.defined()) return launch_rows<true>(b, rows, blocks, stream);
  const Tensor partials =
      Tensor::empty({blocks, rows.width}, DType::f32, device, MemoryTag::workspace);
  b.partials = pointer<float>(partials);
  launch_rows<false>(b, rows, blocks, stream);
  add_partials(partials, dweight, stream);
  check(cudaGetLastError(), "rms_norm_backward: dweight");
}

}  // namespace

void rms_norm_backward(const RmsNormBackwardArgs& args, const Tensor& dx_TD) {
  if (dx_TD.numel() == 0) return;
  const int64_t width = dx_TD.dim(1);
  const Rows rows{.count = dx_TD.dim(0), .width = width};
  dispatch_types(args.x_TD, args.weight_D, [&](auto x_type, auto w_type) {
    using T = decltype(x_type);
    using W = decltype(w_type);
    const Backward<T, W> b{pointer<const T>(args.dy_TD),
                           pointer<const T>(args.x_TD),
                           pointer<const T>(args.dresidual_TD),
                           pointer<const W>(args.weight_D),
                           pointer<const float>(args.rstd_T),
                           pointer<T>(dx_TD),
                           nullptr};
    launch_backward(b, rows, args.dweight_D, dx_TD.device());
  });
}

}  // namespace weft::ops::cuda
