#include "core/ops/elementwise.h"

#include "kernels/cuda/chunks.cuh"
#include "kernels/cuda/exact.cuh"
#include "kernels/cuda/launch_table.cuh"

namespace weft::ops::cuda {
namespace {

struct Value {
  float value;
  __device__ float operator()() const { return value; }
};
struct Same {
  __device__ float operator()(float x) const { return x; }
};
struct Times {
  float factor;
  __device__ float operator()(float x) const { return x * factor; }
};
struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct Ratio {
  __device__ float operator()(float a, float b) const { return __fdiv_rn(a, b); }
};
struct PlusTimes {
  float alpha;
  __device__ float operator()(float y, float x) const {
    return (Exact(y) + Exact(alpha) * x).value;
  }
};

template <class Y, int N, class F, class... X>
__device__ inline Pack<Y, N> mapped(F f, const Pack<X, N>&... x) {
  Pack<Y, N> y;
#pragma unroll
  for (int k = 0; k < N; ++k) y.at[k] = from_float<Y>(f(to_float(x.at[k])...));
  return y;
}

// y[i] = f(x[i]...); an x may be y. Two packs of a thread are in flight at once.
template <int N, class F, class Y, class... X>
__global__ void map_kernel(FlatPlan plan, F f, Y* y, const X*... x) {
  const int64_t stride = item_stride();
  int64_t p = first_item();
  for (; p + stride < plan.packs; p += 2 * stride) {
    const int64_t i = plan.head + p * N, j = i + stride * N;
    const Pack<Y, N> at_i = mapped<Y, N>(f, load_pack<N>(x + i)...);
    const Pack<Y, N> at_j = mapped<Y, N>(f, load_pack<N>(x + j)...);
    store_pack(y + i, at_i);
    store_pack(y + j, at_j);
  }
  if (p < plan.packs) {
    const int64_t i = plan.head + p * N;
    store_pack(y + i, mapped<Y, N>(f, load_pack<N>(x + i)...));
  }
  for_each_single<N>(plan, [&](int64_t i) { y[i] = from_float<Y>(f(to_float(x[i])...)); });
}

template <class F, class Y, class... X>
void map(const Tensor& out, const char* op, F f, Y* y, const X*... x) {
  if (out.numel() == 0) return;
  constexpr int N = kChunk<Y, X...>;
  const FlatPlan plan = plan_flat<N>(out.numel(), y, x...);
  map_kernel<N, F, Y, X...>
      <<<blocks_of<N>(plan, 2), kThreads, 0, stream_on(out.device())>>>(plan, f, y, x...);
  check(cudaGetLastError(), op);
}

struct Identity {
  __device__ static double of(double x) { return x; }
};
struct Square {
  __device__ static double of(double x) { return x * x; }
};

// A tensor of a sum: what is added, in chunks of `chunk` elements, a block each.
struct Addends {
  const void* data;
  int64_t n;
  int64_t chunk;
  DType dtype;
};
using SumTable = LaunchTable<Addends>;

// What a thread adds of the `count` elements from p on.
template <class Term, class T>
__device__ double sum_of_thread(const T* p, int64_t count) {
  constexpr int N = kChunk<T>;
  const bool aligned = is_aligned<N>(p);
  double sum = 0;
#pragma unroll 4
  for (int64_t i = int64_t{threadIdx.x} * N; i + N <= count; i += int64_t{kThreads} * N) {
    const Pack<T, N> pack = aligned ? load_pack<N>(p + i) : load_pack<N>(p + i, N);
#pragma unroll
    for (int k = 0; k < N; ++k) sum += Term::of(to_float(pack.at[k]));
  }
  const int64_t rest = count / N * N + threadIdx.x;
  if (rest < count) sum += Term::of(to_float(p[rest]));
  return sum;
}

// partials[b] = the sum of chunk b. The order depends on sizes alone.
template <class Term>
__global__ void sum_chunks_kernel(const __grid_constant__ SumTable table, double* partials) {
  __shared__ double scratch[kWarp];
  const Share share = table.share();
  const Addends& x = table.at[share.entry];
  const int64_t begin = share.block * x.chunk, count = min(x.chunk, x.n - begin);
  double sum;
  if (x.dtype == DType::f32)
    sum = sum_of_thread<Term>(static_cast<const float*>(x.data) + begin, count);
  else if (x.dtype == DType::bf16)
    sum = sum_of_thread<Term>(static_cast<const __nv_bfloat16*>(x.data) + begin, count);
  else
    sum = sum_of_thread<Term>(static_cast<const __half*>(x.data) + begin, count);
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

// sums[i] = the sum of tensor i's partials.
__global__ void sum_partials_kernel(const __grid_constant__ SumTable table, const double* partials,
                                    double* sums) {
  __shared__ double scratch[kWarp];
  const int64_t begin = table.first_block[blockIdx.x], end = table.first_block[blockIdx.x + 1];
  double sum = 0;
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) sum += partials[i];
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

void add_addends(SumTable& table, const Tensor& x) {
  constexpr int64_t kLeast = 16384, kMostChunks = 4096;
  const int64_t n = x.numel();
  const int64_t chunk = std::max<int64_t>(1, divide_up(divide_up(n, kMostChunks), kLeast)) * kLeast;
  table.add({x.raw(), n, chunk, x.dtype()}, blocks_for(n, chunk));
}

template <class Term>
void sums_of(const std::vector<Tensor>& tensors, const Tensor& out, const char* op) {
  const cudaStream_t stream = stream_on(out.device());
  double* sums = pointer<double>(out);
  launch_in_tables<Addends>(tensors, add_addends, [&](const SumTable& table) {
    const int64_t chunks = table.blocks();
    const bool whole = chunks == table.count;  // every tensor is one chunk: a partial is its sum
    const Tensor partials =
        whole ? Tensor() : Tensor::empty({chunks}, DType::f64, out.device(), MemoryTag::workspace);
    sum_chunks_kernel<Term>
        <<<table.blocks(), kThreads, 0, stream>>>(table, whole ? sums : pointer<double>(partials));
    if (!whole)
      sum_partials_kernel<<<table.count, 1024, 0, stream>>>(table, pointer<double>(partials), sums);
    sums += table.count;
  });
  check(cudaGetLastError(), op);
}

// Bytes of a tensor.
struct Bytes {
  unsigned char* data;
  int64_t count;
};
using ZeroTable = LaunchTable<Bytes>;
constexpr int kBytesAtOnce = 16;

__global__ void zero_kernel(const __grid_constant__ ZeroTable table) {
  const Share share = table.share();
  const Bytes bytes = table.at[share.entry];
  const FlatPlan plan = plan_flat<kBytesAtOnce>(bytes.count, bytes.data);
  const int64_t first = share.first_item();
  const Pack<unsigned char, kBytesAtOnce> zeros{};
#pragma unroll 1  // else each thread divides by the stride first
  for (int64_t p = first; p < plan.packs; p += share.item_stride())
    store_pack(bytes.data + plan.head + p * kBytesAtOnce, zeros);
  if (first < count_singles<kBytesAtOnce>(plan))
    bytes.data[single_at<kBytesAtOnce>(plan, first)] = 0;
}

void add_bytes(ZeroTable& table, const Tensor& x) {
  constexpr int64_t kPacksAThread = 4;
  const auto count = static_cast<int64_t>(x.bytes());
  if (count > 0)
    table.add({static_cast<unsigned char*>(x.raw()), count},
              blocks_for(count, kThreads * kBytesAtOnce * kPacksAThread));
}

}  // namespace

void add(const Tensor& a, const Tensor& b, const Tensor& y) {
  dispatch(a.dtype(), [&](auto type) {
    using T = decltype(type);
    map(y, "add", Sum{}, pointer<T>(y), pointer<const T>(a), pointer<const T>(b));
  });
}

void axpy(float alpha, const Tensor& x, const Tensor& y) {
  dispatch(y.dtype(), [&](auto y_type) {
    using Y = decltype(y_type);
    dispatch(x.dtype(), [&](auto x_type) {
      using X = decltype(x_type);
      map(y, "axpy", PlusTimes{alpha}, pointer<Y>(y), pointer<const Y>(y), pointer<const X>(x));
    });
  });
}

void scale_in_place(const Tensor& x, float factor) {
  dispatch(x.dtype(), [&](auto type) {
    using T = decltype(type);
    map(x, "scale_in_place", Times{factor}, pointer<T>(x), pointer<const T>(x));
  });
}

void cast(const Tensor& src, const Tensor& dst) {
  if (src.dtype() == dst.dtype()) return dst.copy_from(src);
  dispatch(dst.dtype(), [&](auto dst_type) {
    using D = decltype(dst_type);
    dispatch(src.dtype(), [&](auto src_type) {
      using S = decltype(src_type);
      if constexpr (!std::is_same_v<S, D>)
        map(dst, "cast", Same{}, pointer<D>(dst), pointer<const S>(src));
    });
  });
}

void divide(const Tensor& a, const Tensor& b, const Tensor& y) {
  dispatch(a.dtype(), [&](auto a_type) {
    using A = decltype(a_type);
    dispatch(b.dtype(), [&](auto b_type) {
      using B = decltype(b_type);
      map(y, "divide", Ratio{}, pointer<float>(y), pointer<const A>(a), pointer<const B>(b));
    });
  });
}

void sum(const Tensor& x, const Tensor& out) {
  sums_of<Identity>({x}, out, "sum");
}

void sums_of_squares(const std::vector<Tensor>& tensors, const Tensor& out) {
  sums_of<Square>(tensors, out, "sums_of_squares");
}

void fill(const Tensor& x, float value) {
  dispatch(x.dtype(), [&](auto type) {
    using T = decltype(type);
    map(x, "fill", Value{value}, pointer<T>(x));
  });
}

void zero(const std::vector<Tensor>& tensors) {
  if (tensors.empty()) return;
  const cudaStream_t stream = stream_on(tensors.front().device());
  launch_in_tables<Bytes>(tensors, add_bytes, [&](const ZeroTable& table) {
    zero_kernel<<<table.blocks(), kThreads, 0, stream>>>(table);
  });
  check(cudaGetLastError(), "zero");
}

}  // namespace weft::ops::cuda
