#include "core/ops/rms_norm.h"

#include "kernels/cuda/rms_norm_rows.cuh"

namespace weft::ops::cuda {
namespace {

template <class T, class W>
struct Forward {
  const T* x;
  const T* residual;  // may be null, then so is sum
  const W* weight;
  T* sum;
  T* y;
  float* rstd;  // [rows]
  float eps;
};

// The rows' kept chunks, with the residual added and the sum stored where there is one.
template <bool kAligned, bool kRebuild, int kKept, class T, class W>
__device__ void load_input(Chunk<T> (&kept)[kKept], const Forward<T, W>& f, int64_t at,
                           const Part& part) {
  load_kept<kAligned>(kept, f.x + at, part);
  if (kRebuild || !f.residual) return;
  Chunk<T> residual[kKept];
  load_kept<kAligned>(residual, f.residual + at, part);
  T* const sum = part.first_of(f.sum + at);
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    const int i = part.kept<T>(k);
    kept[k] = add(kept[k], residual[k]);
    if (i < part.width) store_chunk<kAligned>(sum + k * part.step<T>(), kept[k], part.width - i);
  }
}

// `squares` + those of what a row has beyond its kept chunks.
template <bool kAligned, class T, class W>
__device__ float add_rest(const Forward<T, W>& f, int64_t at, const Part& part, float squares) {
  for (int i = part.rest<T>(); i < part.width; i += part.step<T>()) {
    const int left = part.width - i;
    Chunk<T> x = load_chunk<kAligned>(f.x + at + i, left);
    if (f.residual) {
      x = add(x, load_chunk<kAligned>(f.residual + at + i, left));
      store_chunk<kAligned>(f.sum + at + i, x, left);
    }
    squares = add_squares(x, squares);
  }
  return squares;
}

template <bool kAligned, int kKept, class T, class W>
__device__ void store_kept(const Chunk<T> (&kept)[kKept], float rstd, const Forward<T, W>& f,
                           int64_t at, const Part& part) {
  T* const to = part.first_of(f.y + at);
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    const int i = part.kept<T>(k);
    if (i >= part.width) continue;
    float y[kChunk<T>];
    normalise<kAligned>(y, kept[k], rstd, f.weight + i, part.width - i);
    store_floats<kAligned>(to + k * part.step<T>(), y, part.width - i);
  }
}

template <bool kAligned, class T, class W>
__device__ void store_rest(float rstd, const Forward<T, W>& f, int64_t at, const Part& part) {
  const T* input = f.residual ? f.sum : f.x;
  for (int i = part.rest<T>(); i < part.width; i += part.step<T>()) {
    const int left = part.width - i;
    float y[kChunk<T>];
    normalise<kAligned>(y, load_chunk<kAligned>(input + at + i, left), rstd, f.weight + i, left);
    store_floats<kAligned>(f.y + at + i, y, left);
  }
}

// Threads that an SM holds at once, as the registers of a thread allow.
constexpr int threads_of_sm(int kept) {
  return kept == kMostKept ? 1024 : 1280;
}

// kRebuild: rstd is given.
template <int kKept, bool kAligned, bool kRebuild, class T, class W>
__global__ void __launch_bounds__(kBlockBound<kKept>,
                                  kAligned ? threads_of_sm(kKept) / kBlockBound<kKept> : 1)
    rms_norm_kernel(Forward<T, W> f, Rows rows, int lanes) {
  __shared__ Scratch scratch;
  wait_for_kernel_before();
  const Part part = part_of<kKept>(rows, lanes);
  int round = 0;
  for (int64_t r = first_row_of_team(part.lanes); r < rows.count;
       r += rows_of_round(part.lanes), ++round) {
    const int64_t at = r * rows.width;
    float rstd = kRebuild ? f.rstd[r] : 0.0f;
    Chunk<T> kept[kKept];
    load_input<kAligned, kRebuild>(kept, f, at, part);
    if constexpr (!kRebuild) {
      float squares = 0;
#pragma unroll
      for (int k = 0; k < kKept; ++k) squares = add_squares(kept[k], squares);
      if constexpr (kKept == kMostKept) squares = add_rest<kAligned>(f, at, part, squares);
      keep_packed(kept);
      squares = team_sum(squares, part.lanes, scratch, round);
      rstd = 1.0f / sqrtf(squares / static_cast<float>(part.width) + f.eps);
      if (part.lane == 0) f.rstd[r] = rstd;
    }
    store_kept<kAligned>(kept, rstd, f, at, part);
    if constexpr (kKept == kMostKept) store_rest<kAligned>(rstd, f, at, part);
  }
}

template <bool kRebuild, class T, class W>
void launch(const Forward<T, W>& f, const Rows& rows, cudaStream_t stream) {
  CHECK(rows.count < (int64_t{1} << 31), "[rms_norm] {} rows", rows.count);
  const Teams teams = teams_for(rows.width, kChunk<T>);
  const auto blocks =
      static_cast<unsigned>(blocks_of_rows(rows.count, teams, threads_of_sm(teams.kept), 1));
  const bool aligned = rows_are_aligned<T>(rows, f.x, f.residual, f.weight, f.sum, f.y);
  with_path(teams.kept, aligned, [&](auto kept, auto aligned_type) {
    launch_behind(
        rms_norm_kernel<decltype(kept)::value, decltype(aligned_type)::value, kRebuild, T, W>,
        blocks, teams.threads, 0, stream, f, rows, teams.lanes);
  });
  check(cudaGetLastError(), kRebuild ? "rms_norm_rebuild" : "rms_norm");
}

}  // namespace

void rms_norm(const RmsNormArgs& args) {
  if (args.y_TD.numel() == 0) return;
  const cudaStream_t stream = stream_on(args.y_TD.device());
  const int64_t width = args.x_TD.dim(1);
  const Rows rows{.count = args.x_TD.dim(0), .width = width};
  dispatch_types(args.x_TD, args.weight_D, [&](auto x_type, auto w_type) {
    using T = decltype(x_type);
    using W = decltype(w_type);
    launch<false>(Forward<T, W>{pointer<const T>(args.x_TD), pointer<const T>(args.residual_TD),
                                pointer<const W>(args.weight_D), pointer<T>(args.sum_TD),
                                pointer<T>(args.y_TD), pointer<float>(args.rstd_T), args.eps},
                  rows, stream);
  });
}

void rms_norm_rebuild(const Tensor& x_TD, const Tensor& weight_D, const Tensor& rstd_T,
                      const Tensor& y_TD) {
  if (y_TD.numel() == 0) return;
  const cudaStream_t stream = stream_on(y_TD.device());
  const int64_t width = x_TD.dim(1);
  const Rows rows{.count = x_TD.dim(0), .width = width};
  dispatch_types(x_TD, weight_D, [&](auto x_type, auto w_type) {
    using T = decltype(x_type);
    using W = decltype(w_type);
    launch<true>(Forward<T, W>{pointer<const T>(x_TD), nullptr, pointer<const W>(weight_D), nullptr,
                               pointer<T>(y_TD), pointer<float>(rstd_T), 0.0f},
                 rows, stream);
  });
}

}  // namespace weft::ops::cuda
