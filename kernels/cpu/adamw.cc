#include "core/ops/adamw.h"

#include <cmath>

#include "core/base/rng.h"
#include "core/ops/update_control.h"
#include "kernels/cpu/vectorised.h"

namespace weft::ops::cpu {
namespace {

// What the hyperparameters say about one element.
struct Update {
  float grad_factor;
  float beta1;
  float one_minus_beta1;
  float beta2;
  float one_minus_beta2;
  float decay;         // 1 - lr * weight_decay
  float rate;          // lr / (1 - beta1^step)
  float v_correction;  // 1 / sqrt(1 - beta2^step)
  float eps;
};

Update update_of(const AdamwRun& run, const AdamwArgs& args) {
  const auto f = [](double x) { return static_cast<float>(x); };
  const auto decided = [&](Control c) { return args.control.data<float>()[static_cast<int>(c)]; };
  return {.grad_factor = decided(Control::grad_factor),
          .beta1 = args.beta1,
          .one_minus_beta1 = f(1 - double{args.beta1}),
          .beta2 = args.beta2,
          .one_minus_beta2 = f(1 - double{args.beta2}),
          .decay = f(1 - double{run.lr} * run.weight_decay),
          .rate = run.lr * decided(Control::m_correction),
          .v_correction = decided(Control::v_correction),
          .eps = args.eps};
}

// A float's neighbours in bf16, the upper one with the probability that its low half tells
// (Gupta et al. 2015, sec. 3). 16 random bits; NaN and infinity stay.
inline bf16 round_stochastically(float x, uint32_t bits) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  if ((u & 0x7f800000u) == 0x7f800000u) return bf16(x);
  bf16 result;
  result.bits = static_cast<uint16_t>((u + bits) >> 16);
  return result;
}

inline void store(float& to, float x, uint32_t) {
  to = x;
}
inline void store(bf16& to, float x, uint32_t bits) {
  to = round_stochastically(x, bits);
}

// V value, W what is updated (the value itself, or its f32 master copy), G gradient, S states.
template <class V, class W, class G, class S>
struct Range {
  V* value;
  W* weight;
  const G* grad;
  S* m;
  S* v;
};

template <class V, class W, class G, class S>
inline void update_at(const Range<V, W, G, S>& p, const Update& u, int64_t i, uint32_t draw) {
  const float g = static_cast<float>(p.grad[i]) * u.grad_factor;
  const float m = u.beta1 * static_cast<float>(p.m[i]) + u.one_minus_beta1 * g;
  const float v = u.beta2 * static_cast<float>(p.v[i]) + u.one_minus_beta2 * (g * g);
  const float step = u.rate * m / (std::sqrt(v) * u.v_correction + u.eps);
  const float weight = static_cast<float>(p.weight[i]) * u.decay - step;
  store(p.m[i], m, draw >> 16);
  store(p.v[i], v, draw >> 16);
  store(p.weight[i], weight, draw & 0xffffu);
  if constexpr (!std::is_same_v<V, W>) p.value[i] = static_cast<V>(weight);
}

template <class V, class W, class G, class S>
void update_range(const Range<V, W, G, S>& range, const Update& update, int64_t n,
                  const StochasticRounding& rounding) {
  if constexpr (std::is_same_v<W, float> && std::is_same_v<S, float>) {
    parallel_vectorised(n, 1, [&](int64_t begin, int64_t end) {
      each(end - begin,
           [p = range, u = update, begin](int64_t i) { update_at(p, u, begin + i, 0); });
    });
  } else {
    const PhiloxKey key = philox_key(rounding.key);
    parallel_for(n, 4096, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const uint64_t g = static_cast<uint64_t>(rounding.first_index + i);
        const auto draws =
            philox({static_cast<uint32_t>(g / 4), static_cast<uint32_t>(g / 4 >> 32), 0, 0}, key);
        update_at(range, update, i, draws[g % 4]);
      }
    });
  }
}

void update_run(const AdamwRun& run, const Update& update) {
  const int64_t n = run.value.numel();
  with_float_type(run.value.dtype(), [&](auto value_type) {
    using V = decltype(value_type);
    with_float_type(run.grad.dtype(), [&](auto grad_type) {
      using G = decltype(grad_type);
      with_float_type(run.m.dtype(), [&](auto state_type) {
        using S = decltype(state_type);
        V* value = run.value.data<V>();
        const G* grad = run.grad.data<G>();
        S *m = run.m.data<S>(), *v = run.v.data<S>();
        if (run.master.defined())
          update_range(Range<V, float, G, S>{value, run.master.data<float>(), grad, m, v}, update,
                       n, run.rounding);
        else
          update_range(Range<V, V, G, S>{value, value, grad, m, v}, update, n, run.rounding);
      });
    });
  });
}

}  // namespace

void adamw(const AdamwArgs& args) {
  if (args.control.data<float>()[static_cast<int>(Control::update)] != 1.0f) return;
  for (const AdamwRun& run : args.runs) update_run(run, update_of(run, args));
}

}  // namespace weft::ops::cpu
