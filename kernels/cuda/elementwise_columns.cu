// The ops of core/ops/elementwise.h on views of matrices: copies, biases and DoRA's vectors.
#include "core/ops/elementwise.h"
#include "kernels/cuda/chunks.cuh"
#include "kernels/cuda/exact.cuh"

namespace weft::ops::cuda {
namespace {

// The largest power of two, 16 at most, that divides where rows begin and how long they are.
int64_t unit_of(const Matrix& m) {
  const int64_t size = static_cast<int64_t>(size_of(m.dtype));
  const int64_t step = m.rows > 1 ? m.row_stride * size : 0;
  const int64_t bits =
      static_cast<int64_t>(reinterpret_cast<uintptr_t>(m.data)) | m.cols * size | step | 16;
  return bits & -bits;
}

struct CopyArgs {
  char* dst;
  const char* src;
  int64_t rows, row_bytes, dst_stride, src_stride;  // in bytes
};

template <class Unit>
__global__ void copy_kernel(CopyArgs args) {
  const int64_t units = args.row_bytes / static_cast<int64_t>(sizeof(Unit));
  for (int64_t row = first_row(); row < args.rows; row += row_stride()) {
    const Unit* src = reinterpret_cast<const Unit*>(args.src + row * args.src_stride);
    Unit* dst = reinterpret_cast<Unit*>(args.dst + row * args.dst_stride);
    for (int64_t j = first_item(); j < units; j += item_stride()) dst[j] = src[j];
  }
}

template <class Unit>
void copy_units(const CopyArgs& args, cudaStream_t stream) {
  const RowGrid over = over_rows(args.rows, args.row_bytes / static_cast<int64_t>(sizeof(Unit)));
  copy_kernel<Unit><<<over.grid, over.block, 0, stream>>>(args);
}

// Rows of N elements side by side start aligned to a pack.
template <int N, class T>
bool has_packs(const Matrix& m) {
  return is_aligned<N>(static_cast<const T*>(m.data)) && (m.rows <= 1 || m.row_stride % N == 0);
}

struct Plus {
  __device__ float operator()(float y, float v) const { return y + v; }
};
struct Times {
  __device__ float operator()(float y, float v) const { return y * v; }
};

template <class T>
struct View {
  T* data;
  int64_t rows, cols, stride;
  explicit View(const Matrix& m)
      : data(static_cast<T*>(m.data)), rows(m.rows), cols(m.cols), stride(m.row_stride) {}
};

// y[t, j] = f(y[t, j], vector[j]). A thread keeps its columns' values over several rows.
template <int N, class F, class T, class V>
__global__ void combine_kernel(View<T> y, const V* vector, F f) {
  for (int64_t j = first_item() * N; j < y.cols; j += item_stride() * N) {
    const int count = static_cast<int>(min(int64_t{N}, y.cols - j));
    float values[N];
#pragma unroll
    for (int k = 0; k < N; ++k) values[k] = k < count ? to_float(vector[j + k]) : 0.0f;
    for (int64_t row = first_row(); row < y.rows; row += row_stride()) {
      T* p = y.data + row * y.stride + j;
      if (count == N) {
        Pack<T, N> pack = load_pack<N>(p);
#pragma unroll
        for (int k = 0; k < N; ++k) pack.at[k] = from_float<T>(f(to_float(pack.at[k]), values[k]));
        store_pack(p, pack);
        continue;
      }
#pragma unroll
      for (int k = 0; k < N; ++k)
        if (k < count) p[k] = from_float<T>(f(to_float(p[k]), values[k]));
    }
  }
}

template <class T, class V, class F>
void combine_typed(const Matrix& y, const Tensor& vector, F f) {
  const cudaStream_t stream = stream_on(y.device);
  const auto launch = [&](auto width) {
    constexpr int N = decltype(width)::value;
    const RowGrid over = over_rows(y.rows, divide_up(y.cols, N), /*rows_a_thread=*/4);
    combine_kernel<N, F, T, V>
        <<<over.grid, over.block, 0, stream>>>(View<T>(y), pointer<const V>(vector), f);
  };
  constexpr int N = kChunk<T>;
  if (has_packs<N, T>(y)) return launch(std::integral_constant<int, N>());
  launch(std::integral_constant<int, 1>());
}

template <class F>
void combine(const Matrix& y, const Tensor& vector, F f, const char* op) {
  if (y.rows == 0 || y.cols == 0) return;
  dispatch(y.dtype, [&](auto type) {
    using T = decltype(type);
    if (vector.dtype() == DType::f32) return combine_typed<T, float>(y, vector, f);
    combine_typed<T, T>(y, vector, f);
  });
  check(cudaGetLastError(), op);
}

// What row t adds to the sums of columns j .. j + N - 1.
template <class T>
struct RowTerm {
  View<const T> a;
  template <int N>
  __device__ void add(int64_t t, int64_t j, float* sums) const {
    const Pack<T, N> pack = load_pack<N>(a.data + t * a.stride + j);
#pragma unroll
    for (int k = 0; k < N; ++k) sums[k] += to_float(pack.at[k]);
  }
};
template <class T>
struct ProductTerm {
  View<const T> a, b;
  template <int N>
  __device__ void add(int64_t t, int64_t j, float* sums) const {
    const Pack<T, N> p = load_pack<N>(a.data + t * a.stride + j);
    const Pack<T, N> q = load_pack<N>(b.data + t * b.stride + j);
#pragma unroll
    for (int k = 0; k < N; ++k)
      sums[k] = (Exact(sums[k]) + Exact(to_float(p.at[k])) * to_float(q.at[k])).value;
  }
};

// Where the sum of a column over a chunk of rows goes.
struct ToPartials {
  float* partials;  // [chunks, cols]
  int64_t cols;
  __device__ void operator()(int64_t chunk, int64_t j, float sum) const {
    partials[chunk * cols + j] = sum;
  }
};
template <class G>
struct AddTo {
  G* out;
  __device__ void operator()(int64_t, int64_t j, float sum) const {
    out[j] = from_float<G>(to_float(out[j]) + sum);
  }
};

constexpr int kRowsAtOnce = kThreads / kWarp;

template <int N, class Term>
__device__ inline void add_rows(const Term& term, int64_t begin, int64_t end, int64_t j,
                                float* sums) {
#pragma unroll 4
  for (int64_t t = begin + threadIdx.y; t < end; t += kRowsAtOnce) term.template add<N>(t, j, sums);
}

struct Extent {
  int64_t rows, cols, chunk;  // chunk: rows of a block
};

// Block (tile of columns, chunk of rows): warp w adds rows w, w + 8, ... in order, then the warps'
// sums are added in order. The order of a column's sum depends on the extent's rows alone.
template <int N, class Term, class Sink>
__global__ void column_sums_kernel(Extent extent, Term term, Sink sink) {
  __shared__ float of_warp[kRowsAtOnce][N][kWarp + 1];
  const int64_t tile = int64_t{blockIdx.x} * kWarp * N, j = tile + int64_t{threadIdx.x} * N;
  const int64_t begin = blockIdx.y * extent.chunk, end = min(extent.rows, begin + extent.chunk);
  float sums[N] = {};
  if (j + N <= extent.cols) {
    add_rows<N>(term, begin, end, j, sums);
  } else {
#pragma unroll
    for (int k = 0; k < N; ++k)
      if (j + k < extent.cols) add_rows<1>(term, begin, end, j + k, sums + k);
  }
#pragma unroll
  for (int k = 0; k < N; ++k) of_warp[threadIdx.y][k][threadIdx.x] = sums[k];
  __syncthreads();
  for (int c = threadIdx.y * kWarp + threadIdx.x; c < kWarp * N; c += kThreads) {
    if (tile + c >= extent.cols) return;
    float sum = 0;
    for (int w = 0; w < kRowsAtOnce; ++w) sum += of_warp[w][c % N][c / N];
    sink(blockIdx.y, tile + c, sum);
  }
}

template <int N, class Term, class Sink>
void launch_column_sums(const Extent& extent, Term term, Sink sink, cudaStream_t stream) {
  const dim3 blocks(static_cast<unsigned>(divide_up(extent.cols, kWarp * N)),
                    static_cast<unsigned>(divide_up(extent.rows, extent.chunk)));
  column_sums_kernel<N><<<blocks, dim3(kWarp, kRowsAtOnce), 0, stream>>>(extent, term, sink);
}

// out += the column sums of term: of chunks of rows first, then of these.
template <int N, class Term>
void add_column_sums(const Matrix& m, Term term, const Tensor& out) {
  constexpr int64_t kMostChunks = 128;
  const int64_t chunk = std::max<int64_t>(32, divide_up(m.rows, kMostChunks));
  const int64_t chunks = divide_up(m.rows, chunk);
  const Tensor partials =
      Tensor::empty({chunks, m.cols}, DType::f32, m.device, MemoryTag::workspace);
  const cudaStream_t stream = stream_on(m.device);
  launch_column_sums<N>({m.rows, m.cols, chunk}, term, ToPartials{pointer<float>(partials), m.cols},
                        stream);
  dispatch(out.dtype(), [&](auto type) {
    using G = decltype(type);
    launch_column_sums<1>({chunks, m.cols, chunks},
                          RowTerm<float>{View<const float>(Matrix(partials))},
                          AddTo<G>{pointer<G>(out)}, stream);
  });
}

// The norm of a row by one warp, in an order that depends on the width alone.
template <class T>
__global__ void row_norms_kernel(const T* w, int64_t rows, int64_t width, float* norms) {
  constexpr int N = kChunk<T>;
  const int64_t stride = int64_t{gridDim.x} * kRowsAtOnce;
  for (int64_t row = int64_t{blockIdx.x} * kRowsAtOnce + threadIdx.y; row < rows; row += stride) {
    const T* p = w + row * width;
    const bool aligned = is_aligned<N>(p);
    float sum = 0;
    const auto add_square = [&](T x) { sum = fmaf(to_float(x), to_float(x), sum); };
#pragma unroll 4
    for (int64_t i = int64_t{threadIdx.x} * N; i + N <= width; i += kWarp * N) {
      const Pack<T, N> pack = aligned ? load_pack<N>(p + i) : load_pack<N>(p + i, N);
#pragma unroll
      for (int k = 0; k < N; ++k) add_square(pack.at[k]);
    }
    const int64_t rest = width / N * N + threadIdx.x;
    if (rest < width) add_square(p[rest]);
    for (int offset = kWarp / 2; offset > 0; offset /= 2)
      sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    if (threadIdx.x == 0) norms[row] = __fsqrt_rn(sum);
  }
}

}  // namespace

void copy(const Matrix& src_TN, const Matrix& dst_TN) {
  if (src_TN.rows == 0 || src_TN.cols == 0) return;
  const int64_t size = static_cast<int64_t>(size_of(src_TN.dtype));
  CopyArgs args{static_cast<char*>(dst_TN.data),
                static_cast<const char*>(src_TN.data),
                src_TN.rows,
                src_TN.cols * size,
                dst_TN.row_stride * size,
                src_TN.row_stride * size};
  const cudaStream_t stream = stream_on(src_TN.device);
  switch (std::min(unit_of(src_TN), unit_of(dst_TN))) {
    case 16:
      copy_units<uint4>(args, stream);
      break;
    case 8:
      copy_units<uint2>(args, stream);
      break;
    case 4:
      copy_units<uint32_t>(args, stream);
      break;
    case 2:
      copy_units<uint16_t>(args, stream);
      break;
    default:
      copy_units<uint8_t>(args, stream);
  }
  check(cudaGetLastError(), "copy");
}

void add_bias(const Matrix& y_TN, const Tensor& bias_N) {
  combine(y_TN, bias_N, Plus{}, "add_bias");
}

void scale_columns(const Matrix& y_TN, const Tensor& factor_N) {
  combine(y_TN, factor_N, Times{}, "scale_columns");
}

void bias_backward(const Matrix& dy_TN, const Tensor& dbias_N) {
  if (dy_TN.rows == 0 || dy_TN.cols == 0) return;
  dispatch(dy_TN.dtype, [&](auto type) {
    using T = decltype(type);
    constexpr int N = kChunk<T>;
    const RowTerm<T> term{View<const T>(dy_TN)};
    if (has_packs<N, T>(dy_TN)) return add_column_sums<N>(dy_TN, term, dbias_N);
    add_column_sums<1>(dy_TN, term, dbias_N);
  });
  check(cudaGetLastError(), "bias_backward");
}

void column_dot(const Matrix& a_TN, const Matrix& b_TN, const Tensor& out_N) {
  if (a_TN.rows == 0 || a_TN.cols == 0) return;
  dispatch(a_TN.dtype, [&](auto type) {
    using T = decltype(type);
    constexpr int N = kChunk<T>;
    const ProductTerm<T> term{View<const T>(a_TN), View<const T>(b_TN)};
    if (has_packs<N, T>(a_TN) && has_packs<N, T>(b_TN))
      return add_column_sums<N>(a_TN, term, out_N);
    add_column_sums<1>(a_TN, term, out_N);
  });
  check(cudaGetLastError(), "column_dot");
}

void row_norms(const Tensor& w_NK, const Tensor& norms_N) {
  const int64_t rows = w_NK.dim(0), width = w_NK.dim(1);
  if (rows == 0) return;
  const cudaStream_t stream = stream_on(w_NK.device());
  dispatch(w_NK.dtype(), [&](auto type) {
    using T = decltype(type);
    row_norms_kernel<<<blocks_for(rows, kRowsAtOnce), dim3(kWarp, kRowsAtOnce), 0, stream>>>(
        pointer<const T>(w_NK), rows, width, pointer<float>(norms_N));
  });
  check(cudaGetLastError(), "row_norms");
}

}  // namespace weft::ops::cuda
