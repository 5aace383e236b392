#include "core/ops/adamw.h"

#include "core/ops/update_control.h"
#include "kernels/cuda/chunks.cuh"
#include "kernels/cuda/exact.cuh"
#include "kernels/cuda/philox.cuh"

namespace weft::ops::cuda {
namespace {

// What the hyperparameters and the step's control say about one element; the formulas are those of
// kernels/cpu/adamw.cc, to the bit.
struct Update {
  float beta1;
  float one_minus_beta1;
  float beta2;
  float one_minus_beta2;
  float decay;  // 1 - lr * weight_decay
  float lr;
  float eps;
  // Read from the control on the GPU.
  float grad_factor;
  float rate;          // lr / (1 - beta1^t)
  float v_correction;  // 1 / sqrt(1 - beta2^t)

  __device__ void read(const float* control) {
    grad_factor = control[static_cast<int>(Control::grad_factor)];
    rate = __fmul_rn(lr, control[static_cast<int>(Control::m_correction)]);
    v_correction = control[static_cast<int>(Control::v_correction)];
  }
  struct Element {
    float weight, m, v;
  };
  __device__ Element operator()(Exact grad, Element before) const {
    const Exact g = grad * grad_factor;
    const Exact m = Exact(beta1) * before.m + one_minus_beta1 * g;
    const Exact v = Exact(beta2) * before.v + one_minus_beta2 * (g * g);
    const Exact step = rate * m / (sqrt(v) * v_correction + eps);
    const Exact weight = Exact(before.weight) * decay - step;
    return {weight.value, m.value, v.value};
  }
};

Update update_of(const AdamwHyper& hyper) {
  const auto f = [](double x) { return static_cast<float>(x); };
  return {.beta1 = f(hyper.beta1),
          .one_minus_beta1 = f(1 - hyper.beta1),
          .beta2 = f(hyper.beta2),
          .one_minus_beta2 = f(1 - hyper.beta2),
          .decay = f(1 - hyper.lr * hyper.weight_decay),
          .lr = f(hyper.lr),
          .eps = f(hyper.eps)};
}

// Of element i of the range: one call gives the draws of four elements.
class Draws {
 public:
  __device__ Draws(Key key, int64_t first_index) : key_(key), first_(first_index) {}
  __device__ uint32_t of(int64_t i) {
    const uint64_t g = static_cast<uint64_t>(first_ + i), call = g / 4;
    if (call != call_) {
      call_ = call;
      draws_ = philox(
          make_uint4(static_cast<uint32_t>(call), static_cast<uint32_t>(call >> 32), 0, 0), key_);
    }
    const uint32_t low = g % 2 == 0 ? draws_.x : draws_.y;
    const uint32_t high = g % 2 == 0 ? draws_.z : draws_.w;
    return g % 4 < 2 ? low : high;
  }

 private:
  Key key_;
  int64_t first_;
  uint64_t call_ = ~uint64_t{0};
  uint4 draws_{};
};

// To the bf16 below or above x; 16 random bits. NaN and infinity stay.
__device__ inline void store(__nv_bfloat16& to, float x, uint32_t bits) {
  const uint32_t u = __float_as_uint(x);
  const bool special = (u & 0x7f800000u) == 0x7f800000u;
  to = special ? __float2bfloat16_rn(x)
               : __ushort_as_bfloat16(static_cast<unsigned short>((u + bits) >> 16));
}
__device__ inline void store(float& to, float x, uint32_t) {
  to = x;
}

// V value, W what is updated (the value itself, or its f32 master copy), G gradient, S states.
template <class V, class W, class G, class S>
struct Range {
  V* value;
  W* weight;
  const G* grad;
  S* m;
  S* v;
  static constexpr bool kDraws = !std::is_same_v<W, float> || !std::is_same_v<S, float>;
};

// Elements i .. i + N - 1. REQUIRES: they are aligned to packs of N.
template <int N, class V, class W, class G, class S>
__device__ inline void update_at(const Range<V, W, G, S>& p, int64_t i, const Update& update,
                                 Draws& draws) {
  const Pack<G, N> grad = load_pack<N>(p.grad + i);
  Pack<S, N> m = load_pack<N>(p.m + i), v = load_pack<N>(p.v + i);
  Pack<W, N> weight = load_pack<N>(p.weight + i);
  Pack<V, N> value;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    const Update::Element after = update(
        to_float(grad.at[k]), {to_float(weight.at[k]), to_float(m.at[k]), to_float(v.at[k])});
    const uint32_t draw = Range<V, W, G, S>::kDraws ? draws.of(i + k) : 0;
    store(m.at[k], after.m, draw >> 16);
    store(v.at[k], after.v, draw >> 16);
    store(weight.at[k], after.weight, draw & 0xffffu);
    value.at[k] = from_float<V>(after.weight);
  }
  store_pack(p.m + i, m);
  store_pack(p.v + i, v);
  store_pack(p.weight + i, weight);
  if constexpr (!std::is_same_v<V, W>) store_pack(p.value + i, value);
}

constexpr int kElements = kChunk<float>;

template <class V, class W, class G, class S>
__global__ void adamw_kernel(FlatPlan plan, Range<V, W, G, S> range, const float* control,
                             Update update, Key key, int64_t first_index) {
  if (control[static_cast<int>(Control::update)] != 1.0f) return;
  update.read(control);
  Draws draws(key, first_index);
  const int64_t stride = item_stride();
  for (int64_t p = first_item(); p < plan.packs; p += stride)
    update_at<kElements>(range, plan.head + p * kElements, update, draws);
  for_each_single<kElements>(plan, [&](int64_t i) { update_at<1>(range, i, update, draws); });
}

template <class V, class W, class G, class S>
void launch(const AdamwArgs& args) {
  const Tensor& weights = args.master.defined() ? args.master : args.value;
  const Range<V, W, G, S> range{pointer<V>(args.value), pointer<W>(weights),
                                pointer<const G>(args.grad), pointer<S>(args.m),
                                pointer<S>(args.v)};
  const FlatPlan plan = plan_flat<kElements>(args.value.numel(), range.value, range.weight,
                                             range.grad, range.m, range.v);
  adamw_kernel<<<blocks_of(plan, 1), kThreads, 0, stream_on(args.value.device())>>>(
      plan, range, pointer<const float>(args.control), update_of(args.hyper),
      key_of(args.rounding.key), args.rounding.first_index);
}

template <class V, class W, class G>
void launch_by_states(const AdamwArgs& args) {
  if (args.m.dtype() == DType::f32)
    launch<V, W, G, float>(args);
  else
    launch<V, W, G, __nv_bfloat16>(args);
}

template <class V, class W>
void launch_by_gradient(const AdamwArgs& args) {
  if (args.grad.dtype() == DType::f32)
    launch_by_states<V, W, float>(args);
  else
    launch_by_states<V, W, V>(args);
}

}  // namespace

void adamw(const AdamwArgs& args) {
  if (args.value.numel() == 0) return;
  const bool master = args.master.defined();
  if (args.value.dtype() == DType::f32)
    launch_by_gradient<float, float>(args);
  else if (args.value.dtype() == DType::f16)
    launch_by_gradient<__half, float>(args);
  else if (master)
    launch_by_gradient<__nv_bfloat16, float>(args);
  else
    launch_by_gradient<__nv_bfloat16, __nv_bfloat16>(args);
  check(cudaGetLastError(), "adamw");
}

}  // namespace weft::ops::cuda
