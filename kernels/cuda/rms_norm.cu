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
  T* y;  // may be x
  float* rstd;
  float eps;
};

// The rows' kept chunks, with the residual added and the sum stored where there is one.
template <bool kAligned, class T, class W>
__device__ void load_input(Chunk<T> (&kept)[kKept], const Forward<T, W>& f, int64_t at,
                           const Part& part) {
  load_kept<kAligned>(kept, f.x + at, part);
  if (!f.residual) return;
  Chunk<T> residual[kKept];
  load_kept<kAligned>(residual, f.residual + at, part);
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    const int64_t i = part.kept<T>(k);
    kept[k] = add(kept[k], residual[k]);
    if (i < part.width) store_chunk<kAligned>(f.sum + at + i, kept[k], part.width - i);
  }
}

template <bool kAligned, class T, class W>
__global__ void __launch_bounds__(kWidestBlock)
    rms_norm_kernel(Forward<T, W> f, Rows rows, int lanes) {
  __shared__ float scratch[kWarp];
  const int teams = blockDim.x / lanes;
  const Part part{static_cast<int>(threadIdx.x) % lanes, lanes, rows.width};
  for (int64_t r = int64_t{blockIdx.x} * teams + threadIdx.x / lanes; r < rows.count;
       r += int64_t{gridDim.x} * teams) {
    const int64_t at = rows.at(r);
    Chunk<T> kept[kKept];
    load_input<kAligned>(kept, f, at, part);
    float squares = 0;
#pragma unroll
    for (int k = 0; k < kKept; ++k) squares = add_squares(kept[k], squares);
    for (int64_t i = part.rest<T>(); i < part.width; i += part.step<T>()) {
      const int64_t left = part.width - i;
      Chunk<T> x = load_chunk<kAligned>(f.x + at + i, left);
      if (f.residual) {
        x = add(x, load_chunk<kAligned>(f.residual + at + i, left));
        store_chunk<kAligned>(f.sum + at + i, x, left);
      }
      squares = add_squares(x, squares);
    }
    squares = team_sum(squares, lanes, scratch);
    const float rstd = 1.0f / sqrtf(squares / static_cast<float>(part.width) + f.eps);
    if (part.lane == 0) f.rstd[r] = rstd;
#pragma unroll
    for (int k = 0; k < kKept; ++k) {
      const int64_t i = part.kept<T>(k);
      if (i < part.width)
        normalise<kAligned>(kept[k], rstd, f.weight + i, f.y + at + i, part.width - i);
    }
    const T* input = f.residual ? f.sum : f.x;
    for (int64_t i = part.rest<T>(); i < part.width; i += part.step<T>()) {
      const Chunk<T> x = load_chunk<kAligned>(input + at + i, part.width - i);
      normalise<kAligned>(x, rstd, f.weight + i, f.y + at + i, part.width - i);
    }
  }
}

template <bool kAligned, class T, class W>
__global__ void rms_norm_rebuild_kernel(const T* x, const W* weight, const float* rstd, T* y,
                                        Rows rows) {
  for (int64_t t = first_row(); t < rows.count; t += row_stride())
    for (int64_t i = first_item() * kChunk<T>; i < rows.width; i += item_stride() * kChunk<T>) {
      const int64_t at = t * rows.width + i, left = rows.width - i;
      normalise<kAligned>(load_chunk<kAligned>(x + at, left), rstd[t], weight + i, y + at, left);
    }
}

template <class T, class W>
void launch_forward(const Forward<T, W>& f, const Rows& rows, cudaStream_t stream) {
  CHECK(rows.count < (int64_t{1} << 31), "[rms_norm] {} rows", rows.count);
  const Teams teams = teams_for(rows.width, kChunk<T>);
  const auto blocks = static_cast<unsigned>(divide_up(rows.count, teams.count()));
  with_alignment(rows_are_aligned<T>(rows, f.x, f.residual, f.weight, f.sum, f.y),
                 [&](auto aligned) {
                   rms_norm_kernel<decltype(aligned)::value>
                       <<<blocks, teams.threads, 0, stream>>>(f, rows, teams.lanes);
                 });
  check(cudaGetLastError(), "rms_norm");
}

}  // namespace

void rms_norm(const RmsNormArgs& args) {
  if (args.y_TD.numel() == 0) return;
  const cudaStream_t stream = stream_on(args.y_TD.device());
  const int64_t width = args.x_TD.dim(1);
  const Rows rows{.count = args.x_TD.dim(0), .width = width, .token_stride = width};
  dispatch_types(args.x_TD, args.weight_D, [&](auto x_type, auto w_type) {
    using T = decltype(x_type);
    using W = decltype(w_type);
    launch_forward(Forward<T, W>{pointer<const T>(args.x_TD), pointer<const T>(args.residual_TD),
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
  const Rows rows{.count = x_TD.dim(0), .width = width, .token_stride = width};
  dispatch_types(x_TD, weight_D, [&](auto x_type, auto w_type) {
    using T = decltype(x_type);
    const auto* x = pointer<const T>(x_TD);
    const auto* weight = pointer<const decltype(w_type)>(weight_D);
    T* y = pointer<T>(y_TD);
    const RowGrid over = over_rows(rows.count, divide_up(width, kChunk<T>));
    with_alignment(rows_are_aligned<T>(rows, x, weight, y), [&](auto aligned) {
      rms_norm_rebuild_kernel<decltype(aligned)::value>
          <<<over.grid, over.block, 0, stream>>>(x, weight, pointer<const float>(rstd_T), y, rows);
    });
  });
  check(cudaGetLastError(), "rms_norm_rebuild");
}

void head_rms_norm(const HeadRmsNormArgs& args) {
  const HeadNorm& heads = args.heads;
  if (args.x.dim(0) * heads.num_heads * heads.head_dim == 0) return;
  const cudaStream_t stream = stream_on(args.x.device());
  const Rows rows{.count = args.x.dim(0) * heads.num_heads,
                  .width = heads.head_dim,
                  .per_token = heads.num_heads,
                  .token_stride = args.x.dim(1),
                  .begin = heads.head_begin * heads.head_dim};
  dispatch_types(args.x, args.weight, [&](auto x_type, auto w_type) {
    using T = decltype(x_type);
    using W = decltype(w_type);
    launch_forward(Forward<T, W>{pointer<const T>(args.x), nullptr, pointer<const W>(args.weight),
                                 nullptr, pointer<T>(args.y), pointer<float>(args.rstd), args.eps},
                   rows, stream);
  });
}

}  // namespace weft::ops::cuda
