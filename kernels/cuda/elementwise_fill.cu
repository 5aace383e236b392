// Random fills of core/ops/elementwise.h: a thread makes the four elements of one Philox call. The
// formulas are those of kernels/cpu/vector_math.h, to the bit: weights begin alike everywhere.
#include "core/ops/elementwise.h"
#include "kernels/cuda/chunks.cuh"
#include "kernels/cuda/exact.cuh"
#include "kernels/cuda/philox.cuh"

namespace weft::ops::cuda {
namespace {

// ln x of normal x > 0.
__device__ Exact exact_log(float x) {
  const int32_t bits = __float_as_int(x);
  // x = m * 2^e with m in [sqrt(1/2), sqrt(2)): 0x3f3504f3 is sqrt(1/2)
  const int32_t e_int = (bits - 0x3f3504f3) >> 23;
  const Exact m = __int_as_float(bits - e_int * (1 << 23));
  const Exact e = static_cast<float>(e_int);
  const Exact f = m - 1.0f;
  const Exact f2 = f * f;
  Exact p = 7.0376836292e-2f;
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const Exact tail = p * (f * f2) + e * -2.12194440e-4f - 0.5f * f2;
  return (f + tail) + e * 0.693359375f;
}

struct SinCos {
  float sin, cos;
};
// Of the angle 2 pi u, 0 <= u < 1.
__device__ SinCos exact_sincos_turns(float u) {
  const int32_t quarter = static_cast<int32_t>((Exact(u) * 4.0f + 0.5f).value);
  const Exact x = (u - Exact(static_cast<float>(quarter)) * 0.25f) * 6.28318530717958648f;
  const Exact x2 = x * x;
  Exact s = -1.9515295891e-4f;
  s = s * x2 + 8.3321608736e-3f;
  s = s * x2 - 1.6666654611e-1f;
  s = s * (x2 * x) + x;
  Exact c = 2.443315711809948e-5f;
  c = c * x2 - 1.388731625493765e-3f;
  c = c * x2 + 4.166664568298827e-2f;
  c = c * (x2 * x2) - 0.5f * x2 + 1.0f;
  const bool swap = (quarter & 1) != 0;
  const float sin_value = swap ? c.value : s.value;
  const float cos_value = swap ? s.value : c.value;
  return {(quarter & 2) ? -sin_value : sin_value, ((quarter + 1) & 2) ? -cos_value : cos_value};
}

struct Normals {
  float mean, std;
  __device__ void pair(uint32_t radius_draw, uint32_t angle_draw, float* values) const {
    const Exact u = Exact(__uint2float_rn(radius_draw)) * 0x1p-32f + 0x1p-33f;  // in (0, 1]
    const Exact radius = sqrt(-2.0f * exact_log(u.value));
    const SinCos angle = exact_sincos_turns(unit_float(angle_draw));
    values[0] = (mean + std * (radius * angle.cos)).value;
    values[1] = (mean + std * (radius * angle.sin)).value;
  }
  __device__ void operator()(uint4 draws, float* values) const {
    pair(draws.x, draws.y, values);
    pair(draws.z, draws.w, values + 2);
  }
};

struct Uniforms {
  float low, range;
  __device__ float of(uint32_t draw) const { return (low + Exact(range) * unit_float(draw)).value; }
  __device__ void operator()(uint4 draws, float* values) const {
    values[0] = of(draws.x);
    values[1] = of(draws.y);
    values[2] = of(draws.z);
    values[3] = of(draws.w);
  }
};

// x[i] = element first + i of the fours that values_of(draws, values) makes.
template <class T, class ValuesOf>
__global__ void fill_kernel(T* x, int64_t first, int64_t n, Key key, ValuesOf values_of) {
  const int64_t first_four = first / 4, fours = (first + n - 1) / 4 + 1 - first_four;
  const int64_t stride = item_stride();
  for (int64_t f = first_item(); f < fours; f += stride) {
    const uint64_t counter = static_cast<uint64_t>(first_four + f);
    float values[4];
    values_of(philox(make_uint4(static_cast<uint32_t>(counter),
                                static_cast<uint32_t>(counter >> 32), 0, 0),
                     key),
              values);
    const int64_t begin = (first_four + f) * 4 - first;  // -3 at the least
    if (begin >= 0 && begin + 4 <= n && is_aligned<4>(x + begin)) {
      Pack<T, 4> pack;
#pragma unroll
      for (int k = 0; k < 4; ++k) pack.at[k] = from_float<T>(values[k]);
      store_pack(x + begin, pack);
      continue;
    }
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (begin + k >= 0 && begin + k < n) x[begin + k] = from_float<T>(values[k]);
  }
}

struct Place {
  uint64_t key;
  int64_t first_index;
};

template <class ValuesOf>
void fill_fours(const Tensor& x, Place place, ValuesOf values_of, const char* op) {
  const int64_t n = x.numel();
  if (n == 0) return;
  const cudaStream_t stream = stream_on(x.device());
  dispatch(x.dtype(), [&](auto type) {
    using T = decltype(type);
    fill_kernel<<<blocks_for(n / 4 + 2), kThreads, 0, stream>>>(pointer<T>(x), place.first_index, n,
                                                                key_of(place.key), values_of);
  });
  check(cudaGetLastError(), op);
}

}  // namespace

void fill_normal(const Tensor& x, const NormalFill& fill) {
  fill_fours(x, {mix(fill.seed, hash_name(fill.name)), fill.first_index},
             Normals{fill.mean, fill.std}, "fill_normal");
}

void fill_uniform(const Tensor& x, const UniformFill& fill) {
  fill_fours(x, {mix(fill.seed, hash_name(fill.name)), fill.first_index},
             Uniforms{fill.low, fill.high - fill.low}, "fill_uniform");
}

}  // namespace weft::ops::cuda
