#include "core/ops/swiglu.h"

#include "kernels/cpu/vector_math.h"
#include "kernels/cpu/vectorised.h"

namespace weft::ops::cpu {
namespace {

template <class T>
inline void swiglu_row(const T* gate, const T* up, T* y, int64_t n) {
  each(n, [=](int64_t i) {
    const float g = static_cast<float>(gate[i]);
    const float silu = g / (1.0f + vector_exp(-g));
    y[i] = static_cast<T>(silu * static_cast<float>(up[i]));
  });
}

template <class T>
struct SwigluRow {
  const T* dy;
  T* gate;  // becomes its gradient, as up
  T* up;
};

// silu'(g) = s (1 + g (1 - s)) with s the sigmoid of g.
template <class T>
inline void swiglu_backward_row(SwigluRow<T> row, int64_t n) {
  each(n, [=](int64_t i) {
    const float g = static_cast<float>(row.gate[i]);
    const float dy = static_cast<float>(row.dy[i]);
    const float s = 1.0f / (1.0f + vector_exp(-g));
    const float dsilu = s * (1.0f + g * (1.0f - s));
    row.gate[i] = static_cast<T>(dy * static_cast<float>(row.up[i]) * dsilu);
    row.up[i] = static_cast<T>(dy * (g * s));
  });
}

}  // namespace

void swiglu(const Tensor& gate_up_T2F, const Tensor& y_TF) {
  const int64_t width = y_TF.dim(1);
  with_float_type(y_TF.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* gate_up = gate_up_T2F.data<T>();
    T* y = y_TF.data<T>();
    parallel_vectorised(y_TF.dim(0), 3 * width, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const T* gate = gate_up + t * 2 * width;
        swiglu_row(gate, gate + width, y + t * width, width);
      }
    });
  });
}

void swiglu_backward(const Tensor& dy_TF, const Tensor& gate_up_T2F) {
  const int64_t width = dy_TF.dim(1);
  with_float_type(dy_TF.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* dy = dy_TF.data<T>();
    T* gate_up = gate_up_T2F.data<T>();
    parallel_vectorised(dy_TF.dim(0), 5 * width, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        T* gate = gate_up + t * 2 * width;
        swiglu_backward_row(SwigluRow<T>{dy + t * width, gate, gate + width}, width);
      }
    });
  });
}

}  // namespace weft::ops::cpu
