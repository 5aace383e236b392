#include "core/ops/adamw.h"

#include <cmath>

#include "kernels/cuda/exact.cuh"
#include "kernels/cuda/pack.cuh"

namespace weft::ops::cuda {
namespace {

// What the hyperparameters say about one element; the formulas are those of kernels/cpu/adamw.cc,
// to the bit.
struct Update {
  float beta1;
  float one_minus_beta1;
  float beta2;
  float one_minus_beta2;
  float decay;         // 1 - lr * weight_decay
  float rate;          // lr / (1 - beta1^step)
  float v_correction;  // 1 / sqrt(1 - beta2^step)
  float eps;

  __device__ void operator()(Exact grad, float grad_factor, float* m_at, float* v_at,
                             float* weight_at) const {
    const Exact g = grad * grad_factor;
    const Exact m = Exact(beta1) * *m_at + one_minus_beta1 * g;
    const Exact v = Exact(beta2) * *v_at + one_minus_beta2 * (g * g);
    const Exact step = rate * m / (sqrt(v) * v_correction + eps);
    const Exact weight = Exact(*weight_at) * decay - step;
    *m_at = m.value;
    *v_at = v.value;
    *weight_at = weight.value;
  }
};

Update update_of(const AdamwHyper& hyper) {
  const double step = static_cast<double>(hyper.step);
  const auto f = [](double x) { return static_cast<float>(x); };
  return {.beta1 = f(hyper.beta1),
          .one_minus_beta1 = f(1 - hyper.beta1),
          .beta2 = f(hyper.beta2),
          .one_minus_beta2 = f(1 - hyper.beta2),
          .decay = f(1 - hyper.lr * hyper.weight_decay),
          .rate = f(hyper.lr / (1 - std::pow(hyper.beta1, step))),
          .v_correction = f(1 / std::sqrt(1 - std::pow(hyper.beta2, step))),
          .eps = f(hyper.eps)};
}

template <class V, class G>
struct Range {
  V* value;
  float* weight;  // the value itself, or its master copy
  const G* grad;
  float* m;
  float* v;
};

// Elements i .. i + N - 1. REQUIRES: they are aligned to packs of N.
template <int N, class V, class G>
__device__ inline void update_at(const Range<V, G>& p, int64_t i, const Update& update,
                                 float grad_factor) {
  const Pack<G, N> grad = load_pack<N>(p.grad + i);
  Pack<float, N> m = load_pack<N>(p.m + i), v = load_pack<N>(p.v + i);
  Pack<float, N> weight = load_pack<N>(p.weight + i);
#pragma unroll
  for (int k = 0; k < N; ++k)
    update(to_float(grad.at[k]), grad_factor, &m.at[k], &v.at[k], &weight.at[k]);
  store_pack(p.m + i, m);
  store_pack(p.v + i, v);
  store_pack(p.weight + i, weight);
  if constexpr (!std::is_same_v<V, float>) {
    Pack<V, N> value;
#pragma unroll
    for (int k = 0; k < N; ++k) value.at[k] = from_float<V>(weight.at[k]);
    store_pack(p.value + i, value);
  }
}

constexpr int kElements = kPackOf<float>;

template <class V, class G>
__global__ void adamw_kernel(FlatPlan plan, Range<V, G> range, const float* control,
                             Update update) {
  if (control[1] != 1.0f) return;
  const float grad_factor = control[0];
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t p = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; p < plan.packs; p += stride)
    update_at<kElements>(range, plan.head + p * kElements, update, grad_factor);
  for_each_single<kElements>(plan, [&](int64_t i) { update_at<1>(range, i, update, grad_factor); });
}

template <class V, class G>
void launch(const AdamwArgs& args) {
  const Tensor& weights = args.master.defined() ? args.master : args.value;
  const Range<V, G> range{pointer<V>(args.value), pointer<float>(weights),
                          pointer<const G>(args.grad), pointer<float>(args.m),
                          pointer<float>(args.v)};
  const FlatPlan plan = plan_flat<kElements>(args.value.numel(), range.value, range.weight,
                                             range.grad, range.m, range.v);
  adamw_kernel<<<blocks_of(plan, 1), kThreads, 0, stream_on(args.value.device())>>>(
      plan, range, pointer<const float>(args.control), update_of(args.hyper));
}

}  // namespace

void adamw(const AdamwArgs& args) {
  if (args.value.numel() == 0) return;
  dispatch(args.value.dtype(), [&](auto value_type) {
    dispatch(args.grad.dtype(),
             [&](auto grad_type) { launch<decltype(value_type), decltype(grad_type)>(args); });
  });
  check(cudaGetLastError(), "adamw");
}

}  // namespace weft::ops::cuda
