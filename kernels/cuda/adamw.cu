#include "core/ops/adamw.h"

#include <algorithm>
#include <span>

#include "core/ops/update_control.h"
#include "kernels/cuda/chunks.cuh"
#include "kernels/cuda/exact.cuh"
#include "kernels/cuda/launch_table.cuh"
#include "kernels/cuda/philox.cuh"

namespace weft::ops::cuda {
namespace {

// The hyperparameters that all runs have.
struct Common {
  float beta1;
  float one_minus_beta1;
  float beta2;
  float one_minus_beta2;
  float eps;
};

// What those of a run and the step's control say about one element; the formulas are those of
// kernels/cpu/adamw.cc, to the bit.
struct Update {
  Common all;
  float decay;  // 1 - lr * weight_decay
  float grad_factor;
  float rate;          // lr / (1 - beta1^t)
  float v_correction;  // 1 / sqrt(1 - beta2^t)

  struct Element {
    float weight, m, v;
  };
  __device__ Element operator()(Exact grad, Element before) const {
    const Exact g = grad * grad_factor;
    const Exact m = Exact(all.beta1) * before.m + all.one_minus_beta1 * g;
    const Exact v = Exact(all.beta2) * before.v + all.one_minus_beta2 * (g * g);
    const Exact step = rate * m / (sqrt(v) * v_correction + all.eps);
    const Exact weight = Exact(before.weight) * decay - step;
    return {weight.value, m.value, v.value};
  }
};

// Of element i of the run: one call gives the draws of four elements.
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

// A run, as the kernel's table has it.
template <class V, class W, class G, class S>
struct Entry {
  Range<V, W, G, S> range;
  FlatPlan plan;
  int64_t first_index;
  Key key;
  float decay;
  float lr;
};

// A thread has one pack, or one of the elements in none: without a loop it reads what the table
// says of the run where it needs it, and holds little of that in registers.
template <class V, class W, class G, class S>
__global__ void adamw_kernel(const __grid_constant__ LaunchTable<Entry<V, W, G, S>> table,
                             const __grid_constant__ Common all, const float* control) {
  if (control[static_cast<int>(Control::update)] != 1.0f) return;
  const Share share = table.share();
  const Entry<V, W, G, S>& run = table.at[share.entry];
  const Update update{all, run.decay, control[static_cast<int>(Control::grad_factor)],
                      __fmul_rn(run.lr, control[static_cast<int>(Control::m_correction)]),
                      control[static_cast<int>(Control::v_correction)]};
  Draws draws(run.key, run.first_index);
  const int64_t item = share.first_item(), single = item - run.plan.packs;
  if (single < 0)
    update_at<kElements>(run.range, run.plan.head + item * kElements, update, draws);
  else if (single < count_singles<kElements>(run.plan))
    update_at<1>(run.range, single_at<kElements>(run.plan, single), update, draws);
}

template <class V, class W, class G, class S>
void add_run(LaunchTable<Entry<V, W, G, S>>& table, const AdamwRun& run) {
  if (run.value.numel() == 0) return;
  const Tensor& weights = run.master.defined() ? run.master : run.value;
  const Range<V, W, G, S> range{pointer<V>(run.value), pointer<W>(weights),
                                pointer<const G>(run.grad), pointer<S>(run.m), pointer<S>(run.v)};
  const FlatPlan plan = plan_flat<kElements>(run.value.numel(), range.value, range.weight,
                                             range.grad, range.m, range.v);
  const int64_t items = plan.packs + count_singles<kElements>(plan);
  table.add({range, plan, run.rounding.first_index, key_of(run.rounding.key),
             static_cast<float>(1 - double{run.lr} * run.weight_decay), run.lr},
            static_cast<unsigned>(divide_up(items, kThreads)));
}

using Runs = std::span<const AdamwRun>;  // of the same dtypes

template <class V, class W, class G, class S>
void launch(Runs runs, const AdamwArgs& args) {
  using Run = Entry<V, W, G, S>;
  const auto f = [](double x) { return static_cast<float>(x); };
  const Common all{args.beta1, f(1 - double{args.beta1}), args.beta2, f(1 - double{args.beta2}),
                   args.eps};
  const cudaStream_t stream = stream_on(args.control.device());
  launch_in_tables<Run>(runs, add_run<V, W, G, S>, [&](const LaunchTable<Run>& table) {
    adamw_kernel<V, W, G, S>
        <<<table.blocks(), kThreads, 0, stream>>>(table, all, pointer<const float>(args.control));
  });
}

template <class V, class W, class G>
void launch_by_states(Runs runs, const AdamwArgs& args) {
  if (runs.front().m.dtype() == DType::f32)
    launch<V, W, G, float>(runs, args);
  else
    launch<V, W, G, __nv_bfloat16>(runs, args);
}

template <class V, class W>
void launch_by_gradient(Runs runs, const AdamwArgs& args) {
  if (runs.front().grad.dtype() == DType::f32)
    launch_by_states<V, W, float>(runs, args);
  else
    launch_by_states<V, W, V>(runs, args);
}

void launch_by_value(Runs runs, const AdamwArgs& args) {
  const AdamwRun& first = runs.front();
  if (first.value.dtype() == DType::f32)
    launch_by_gradient<float, float>(runs, args);
  else if (first.value.dtype() == DType::f16)
    launch_by_gradient<__half, float>(runs, args);
  else if (first.master.defined())
    launch_by_gradient<__nv_bfloat16, float>(runs, args);
  else
    launch_by_gradient<__nv_bfloat16, __nv_bfloat16>(runs, args);
}

bool same_dtypes(const AdamwRun& a, const AdamwRun& b) {
  return a.value.dtype() == b.value.dtype() && a.master.defined() == b.master.defined() &&
         a.grad.dtype() == b.grad.dtype() && a.m.dtype() == b.m.dtype();
}

}  // namespace

void adamw(const AdamwArgs& args) {
  for (Runs left = args.runs; !left.empty();) {
    const auto other = std::find_if(left.begin(), left.end(), [&](const AdamwRun& run) {
      return !same_dtypes(run, left.front());
    });
    const auto alike = static_cast<size_t>(other - left.begin());
    launch_by_value(left.first(alike), args);
    left = left.subspan(alike);
  }
  check(cudaGetLastError(), "adamw");
}

}  // namespace weft::ops::cuda
