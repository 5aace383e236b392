#include "core/ops/adamw.h"

#include <cmath>

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

Update update_of(const AdamwHyper& hyper, float grad_factor) {
  const double step = static_cast<double>(hyper.step);
  const auto f = [](double x) { return static_cast<float>(x); };
  return {.grad_factor = grad_factor,
          .beta1 = f(hyper.beta1),
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

template <class V, class G>
inline void update_range(Range<V, G> p, Update u, int64_t n) {
  each(n, [=](int64_t i) {
    const float g = static_cast<float>(p.grad[i]) * u.grad_factor;
    const float m = u.beta1 * p.m[i] + u.one_minus_beta1 * g;
    const float v = u.beta2 * p.v[i] + u.one_minus_beta2 * (g * g);
    const float step = u.rate * m / (std::sqrt(v) * u.v_correction + u.eps);
    const float weight = p.weight[i] * u.decay - step;
    p.m[i] = m;
    p.v[i] = v;
    p.weight[i] = weight;
    if constexpr (!std::is_same_v<V, float>) p.value[i] = static_cast<V>(weight);
  });
}

}  // namespace

void adamw(const AdamwArgs& args) {
  const float* control = args.control.data<float>();
  if (control[1] != 1.0f) return;
  const Update update = update_of(args.hyper, control[0]);
  const Tensor& weights = args.master.defined() ? args.master : args.value;
  float* weight = weights.data<float>();
  float* m = args.m.data<float>();
  float* v = args.v.data<float>();
  with_float_type(args.value.dtype(), [&](auto value_type) {
    using V = decltype(value_type);
    with_float_type(args.grad.dtype(), [&](auto grad_type) {
      using G = decltype(grad_type);
      V* value = args.value.data<V>();
      const G* grad = args.grad.data<G>();
      parallel_vectorised(args.value.numel(), 1, [&](int64_t begin, int64_t end) {
        update_range(Range<V, G>{value + begin, weight + begin, grad + begin, m + begin, v + begin},
                     update, end - begin);
      });
    });
  });
}

}  // namespace weft::ops::cpu
