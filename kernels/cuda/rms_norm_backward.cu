#include "core/ops/rms_norm.h"
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
  T* dx;            // may be dy
  float* partials;  // [blocks, width] =: dweight of each block's rows; may be null
};

// Adds sum(dy * weight * xhat) of a chunk: how much of the gradient points along x.
template <bool kAligned, class T, class W>
__device__ float add_along_x(const Chunk<T>& dy, const Chunk<T>& x, const W* weight, int64_t left,
                             float sum) {
  float w[kChunk<T>];
  load_floats<kAligned>(w, weight, left);
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j) sum += to_float(dy.at[j]) * w[j] * to_float(x.at[j]);
  return sum;
}

struct RowScale {
  float rstd;
  float along;  // mean(dy * weight * xhat)
};

// dx of the chunk at element `at` of the tensors and `i` of the row.
template <bool kAligned, class T, class W>
__device__ void store_dx(const Backward<T, W>& b, const Chunk<T>& dy, const Chunk<T>& x,
                         RowScale scale, int64_t at, int64_t i, int64_t left) {
  float w[kChunk<T>], more[kChunk<T>] = {};
  load_floats<kAligned>(w, b.weight + i, left);
  if (b.dresidual) load_floats<kAligned>(more, b.dresidual + at + i, left);
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j) {
    const float xhat = to_float(x.at[j]) * scale.rstd;
    w[j] = scale.rstd * (to_float(dy.at[j]) * w[j] - xhat * scale.along) + more[j];
  }
  store_floats<kAligned>(b.dx + at + i, w, left);
}

template <class T>
__device__ void add_dweight(const Chunk<T>& dy, const Chunk<T>& x, float rstd,
                            float (&sum)[kChunk<T>]) {
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j) sum[j] += to_float(dy.at[j]) * (to_float(x.at[j]) * rstd);
}

// What a row has beyond its kept chunks; `partial` (may be null) takes its dweight.
template <bool kAligned, class T, class W>
__device__ float along_rest(const Backward<T, W>& b, int64_t at, const Part& part, float sum) {
  for (int64_t i = part.rest<T>(); i < part.width; i += part.step<T>()) {
    const int64_t left = part.width - i;
    sum = add_along_x<kAligned>(load_chunk<kAligned>(b.dy + at + i, left),
                                load_chunk<kAligned>(b.x + at + i, left), b.weight + i, left, sum);
  }
  return sum;
}
template <bool kAligned, class T, class W>
__device__ void store_rest(const Backward<T, W>& b, RowScale scale, int64_t at, const Part& part,
                           float* partial) {
  for (int64_t i = part.rest<T>(); i < part.width; i += part.step<T>()) {
    const int64_t left = part.width - i;
    const Chunk<T> dy = load_chunk<kAligned>(b.dy + at + i, left);
    const Chunk<T> x = load_chunk<kAligned>(b.x + at + i, left);
    store_dx<kAligned>(b, dy, x, scale, at, i, left);
    if (!partial) continue;
    float sum[kChunk<T>];
    load_floats<kAligned>(sum, partial + i, left);
    add_dweight(dy, x, scale.rstd, sum);
    store_floats<kAligned>(partial + i, sum, left);
  }
}

// partial[width] = the sum over the block's teams, in their order. `shared` holds a row a team.
template <class T>
__device__ void store_partial(const float (&sums)[kKept][kChunk<T>], const Part& part,
                              float* shared, float* partial) {
  const int teams = blockDim.x / part.lanes;
  float* mine = teams == 1 ? partial : shared + threadIdx.x / part.lanes * part.width;
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    const int64_t i = part.kept<T>(k);
#pragma unroll
    for (int j = 0; j < kChunk<T>; ++j)
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

template <bool kAligned, class T, class W>
__global__ void __launch_bounds__(kWidestBlock)
    rms_norm_backward_kernel(Backward<T, W> b, Rows rows, int lanes) {
  __shared__ float scratch[kWarp];
  extern __shared__ float sums_of_teams[];
  const int teams = blockDim.x / lanes;
  const Part part{static_cast<int>(threadIdx.x) % lanes, lanes, rows.width};
  float* partial = b.partials ? b.partials + blockIdx.x * rows.width : nullptr;
  float sums[kKept][kChunk<T>] = {};
  if (partial)  // a rest has one team, whose threads keep to their own chunks
    for (int64_t i = part.rest<T>(); i < part.width; i += part.step<T>())
      for (int64_t j = i; j < part.width && j < i + kChunk<T>; ++j) partial[j] = 0;
  for (int64_t r = int64_t{blockIdx.x} * teams + threadIdx.x / lanes; r < rows.count;
       r += int64_t{gridDim.x} * teams) {
    const int64_t at = rows.at(r);
    Chunk<T> dy[kKept], x[kKept];
    load_kept<kAligned>(dy, b.dy + at, part);
    load_kept<kAligned>(x, b.x + at, part);
    RowScale scale{b.rstd[r], 0};
#pragma unroll
    for (int k = 0; k < kKept; ++k) {
      const int64_t i = part.kept<T>(k);
      if (i < part.width)
        scale.along = add_along_x<kAligned>(dy[k], x[k], b.weight + i, part.width - i, scale.along);
    }
    scale.along = along_rest<kAligned>(b, at, part, scale.along);
    scale.along =
        team_sum(scale.along, lanes, scratch) * scale.rstd / static_cast<float>(part.width);
#pragma unroll
    for (int k = 0; k < kKept; ++k) {
      const int64_t i = part.kept<T>(k);
      if (i < part.width) store_dx<kAligned>(b, dy[k], x[k], scale, at, i, part.width - i);
      if (partial) add_dweight(dy[k], x[k], scale.rstd, sums[k]);
    }
    store_rest<kAligned>(b, scale, at, part, partial);
  }
  if (partial) store_partial<T>(sums, part, sums_of_teams, partial);
}

constexpr int kColumns = 32, kSummers = 16;  // of a block that sums partials

// out[width] += the partials' sum in a fixed order.
template <class G>
__global__ void add_partials_kernel(const float* partials, int64_t num_partials, int64_t width,
                                    G* out) {
  __shared__ float sums[kSummers][kColumns];
  const int64_t column = int64_t{blockIdx.x} * kColumns + threadIdx.x;
  float sum = 0;
  if (column < width) {
#pragma unroll 8
    for (int64_t p = threadIdx.y; p < num_partials; p += kSummers)
      sum += partials[p * width + column];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= width) return;
  for (int y = 1; y < kSummers; ++y) sum += sums[y][threadIdx.x];
  out[column] = from_float<G>(to_float(out[column]) + sum);
}

void add_partials(const Tensor& partials, const Tensor& out, cudaStream_t stream) {
  const int64_t width = partials.dim(1);
  dispatch(out.dtype(), [&](auto type) {
    using G = decltype(type);
    const auto blocks = static_cast<unsigned>(divide_up(width, kColumns));
    add_partials_kernel<<<blocks, dim3(kColumns, kSummers), 0, stream>>>(
        pointer<const float>(partials), partials.dim(0), width, pointer<G>(out));
  });
}

// Fills b.partials and launches.
template <class T, class W>
void launch_backward(Backward<T, W> b, const Rows& rows, const Tensor& dweight, Device device) {
  CHECK(rows.count < (int64_t{1} << 31), "[rms_norm_backward] {} rows", rows.count);
  const cudaStream_t stream = stream_on(device);
  const Teams teams = teams_for(rows.width, kChunk<T>);
  const int64_t wanted = divide_up(rows.count, kRowsOfTeam * teams.count());
  const int64_t blocks = wanted < kRowBlocks ? wanted : kRowBlocks;
  Tensor partials;
  if (dweight.defined())
    partials = Tensor::empty({blocks, rows.width}, DType::f32, device, MemoryTag::workspace);
  b.partials = pointer<float>(partials);
  const size_t shared = partials.defined() && teams.count() > 1
                            ? static_cast<size_t>(teams.count() * rows.width) * sizeof(float)
                            : 0;
  with_alignment(rows_are_aligned<T>(rows, b.dy, b.x, b.dresidual, b.weight, b.dx),
                 [&](auto aligned) {
                   rms_norm_backward_kernel<decltype(aligned)::value>
                       <<<static_cast<unsigned>(blocks), teams.threads, shared, stream>>>(
                           b, rows, teams.lanes);
                 });
  check(cudaGetLastError(), "rms_norm_backward");
  if (!dweight.defined()) return;
  add_partials(partials, dweight, stream);
  check(cudaGetLastError(), "rms_norm_backward: dweight");
}

}  // namespace

void rms_norm_backward(const RmsNormBackwardArgs& args, const Tensor& dx_TD) {
  if (dx_TD.numel() == 0) return;
  const int64_t width = dx_TD.dim(1);
  const Rows rows{.count = dx_TD.dim(0), .width = width, .token_stride = width};
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

void head_rms_norm_backward(const HeadRmsNormBackwardArgs& args) {
  const HeadNorm& heads = args.heads;
  if (args.x.dim(0) * heads.num_heads * heads.head_dim == 0) return;
  const Rows rows{.count = args.x.dim(0) * heads.num_heads,
                  .width = heads.head_dim,
                  .per_token = heads.num_heads,
                  .token_stride = args.x.dim(1),
                  .begin = heads.head_begin * heads.head_dim};
  dispatch_types(args.x, args.weight, [&](auto x_type, auto w_type) {
    using T = decltype(x_type);
    using W = decltype(w_type);
    const Backward<T, W> b{pointer<const T>(args.dy),
                           pointer<const T>(args.x),
                           nullptr,
                           pointer<const W>(args.weight),
                           pointer<const float>(args.rstd),
                           pointer<T>(args.dy),
                           nullptr};
    launch_backward(b, rows, args.dweight, args.x.device());
  });
}

}  // namespace weft::ops::cuda
