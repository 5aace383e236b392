#include "kernels/cuda/matvec.h"

#include "kernels/cuda/chunks.cuh"

namespace weft::ops::cuda::matvec {
namespace {

constexpr int kMostRows = 4;         // of a
constexpr int kInFlight = 4;         // chunks of a weight's row that a lane asks for at a time
constexpr int64_t kFeatures = 4096;  // from here on a warp takes two: each read of a serves both
constexpr int kWarps = kThreads / kWarp;

template <class T, class Out>
struct Product {
  const T* a;        // [rows, depth]
  const T* w;        // [features, depth]
  Out* c;            // [rows, features]
  const Out* added;  // [rows, features], may be c; null: none
  const Out* bias;   // [features]; null: none, or in f32
  const float* f32_bias;
  int64_t a_stride, w_stride, c_stride, added_stride;
  int64_t features;
  int depth;
  float alpha;

  // The element's value from its sum of products, rounded once.
  __device__ void store(int row, int64_t feature, float sum) const {
    float value = alpha * sum;
    if (added) value += to_float(added[row * added_stride + feature]);
    if (bias) value += to_float(bias[feature]);
    if (f32_bias) value += f32_bias[feature];
    c[row * c_stride + feature] = from_float<Out>(value);
  }
};

// A weight's chunks lane, lane + 32, ..., kInFlight of them at a time; zeros behind the end.
template <class T>
__device__ void load_weight(Chunk<T> (&chunks)[kInFlight], const T* row, int at, int depth) {
#pragma unroll
  for (int i = 0; i < kInFlight; ++i) {
    const int place = at + i * kWarp * kChunk<T>;
    *reinterpret_cast<uint4*>(&chunks[i]) =
        place < depth ? __ldcs(reinterpret_cast<const uint4*>(row + place)) : uint4{};
  }
}

// A warp computes kEach neighbouring features of all rows; sums are in f32, a lane's in the order
// of the depth, then over the lanes.
template <int kRows, int kEach, class T, class Out>
__global__ void __launch_bounds__(kThreads) matvec_kernel(Product<T, Out> p) {
  const int lane = threadIdx.x % kWarp;
  const int64_t feature = (int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp) * kEach;
  if (feature >= p.features) return;
  float sums[kEach][kRows] = {};
  const T* rows[kEach];
#pragma unroll
  for (int n = 0; n < kEach; ++n)  // the last one again where there are no more
    rows[n] = p.w + min(feature + n, p.features - 1) * p.w_stride;
  for (int at = lane * kChunk<T>; at < p.depth; at += kInFlight * kWarp * kChunk<T>) {
    Chunk<T> weights[kEach][kInFlight];
#pragma unroll
    for (int n = 0; n < kEach; ++n) load_weight(weights[n], rows[n], at, p.depth);
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int place = at + i * kWarp * kChunk<T>;
      if (place >= p.depth) break;
#pragma unroll
      for (int m = 0; m < kRows; ++m) {
        float x[kChunk<T>];
        load_floats<true>(x, p.a + m * p.a_stride + place, kChunk<T>);
#pragma unroll
        for (int n = 0; n < kEach; ++n)
#pragma unroll
          for (int j = 0; j < kChunk<T>; ++j)
            sums[n][m] = fmaf(x[j], to_float(weights[n][i].at[j]), sums[n][m]);
      }
    }
  }
#pragma unroll
  for (int n = 0; n < kEach; ++n)
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
      for (int offset = kWarp / 2; offset > 0; offset /= 2)
        sums[n][m] += __shfl_xor_sync(0xffffffffu, sums[n][m], offset);
      if (lane == 0 && feature + n < p.features) p.store(m, feature + n, sums[n][m]);
    }
}

template <int kRows, class T, class Out>
void launch(const Product<T, Out>& p, cudaStream_t stream) {
  if (p.features >= kFeatures)
    matvec_kernel<kRows, 2>
        <<<static_cast<unsigned>(divide_up(p.features, 2 * kWarps)), kThreads, 0, stream>>>(p);
  else
    matvec_kernel<kRows, 1>
        <<<static_cast<unsigned>(divide_up(p.features, kWarps)), kThreads, 0, stream>>>(p);
}

template <class T, class Out>
void launch_rows(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options) {
  Product<T, Out> p{};
  p.a = static_cast<const T*>(a.data);
  p.w = static_cast<const T*>(b.data);
  p.c = static_cast<Out*>(c.data);
  p.a_stride = a.row_stride;
  p.w_stride = b.col_stride;
  p.c_stride = c.row_stride;
  p.features = c.cols;
  p.depth = static_cast<int>(a.cols);
  p.alpha = options.alpha;
  if (options.accumulate || options.addend) {
    const Matrix& added = options.addend ? *options.addend : c;
    p.added = static_cast<const Out*>(added.data);
    p.added_stride = added.row_stride;
  }
  if (const Tensor* bias = options.bias_N) {
    if (bias->dtype() == c.dtype)
      p.bias = pointer<const Out>(*bias);
    else
      p.f32_bias = pointer<const float>(*bias);
  }
  const cudaStream_t stream = stream_on(c.device);
  switch (a.rows) {
    case 1:
      return launch<1>(p, stream);
    case 2:
      return launch<2>(p, stream);
    case 3:
      return launch<3>(p, stream);
    default:
      return launch<4>(p, stream);
  }
}

// Rows of 16-byte chunks, `stride` elements apart.
bool has_chunks(const Matrix& m, int64_t stride, int64_t rows) {
  const int64_t element = static_cast<int64_t>(size_of(m.dtype));
  return is_aligned(m.data) && (rows <= 1 || stride * element % 16 == 0);
}

}  // namespace

bool takes(const Matrix& a, const Matrix& b, const Matrix& c) {
  const int64_t depth_bytes = a.cols * static_cast<int64_t>(size_of(a.dtype));
  return a.rows <= kMostRows && a.cols > 0 && depth_bytes % 16 == 0 && a.cols < (1 << 30) &&
         a.col_stride == 1 && b.row_stride == 1 && has_chunks(a, a.row_stride, a.rows) &&
         has_chunks(b, b.col_stride, b.cols) && c.cols < (int64_t{1} << 31);
}

void multiply(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options) {
  dispatch(a.dtype, [&](auto type) {
    using T = decltype(type);
    if (c.dtype == DType::f32)
      launch_rows<T, float>(a, b, c, options);
    else
      launch_rows<T, T>(a, b, c, options);
  });
  check(cudaGetLastError(), "matmul");
}

}  // namespace weft::ops::cuda::matvec
