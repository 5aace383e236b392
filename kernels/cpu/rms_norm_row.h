// RMSNorm of one row and its gradient. For light kernels (vectorised.h), inside of its loops.
#pragma once

#include <cmath>

#include "core/tensor/tensor.h"
#include "kernels/cpu/vectorised.h"

namespace weft::ops::cpu {

template <class T>
inline float row_rstd(const T* x, int64_t n, float eps) {
  const float squares = sum_in_lanes(n, [=](int64_t i) {
    const float value = static_cast<float>(x[i]);
    return value * value;
  });
  return 1.0f / std::sqrt(squares / static_cast<float>(n) + eps);
}

template <class T, class W>
inline void normalise_row(const T* x, const W* weight, float rstd, T* y, int64_t n) {
  each(n, [=](int64_t i) {
    y[i] = static_cast<T>(static_cast<float>(x[i]) * rstd * static_cast<float>(weight[i]));
  });
}

// mean(dy * weight * xhat): how much of the gradient points along x.
template <class T, class W>
inline float mean_along_x(const T* dy, const T* x, const W* weight, float rstd, int64_t n) {
  const float sum = sum_in_lanes(n, [=](int64_t i) {
    return static_cast<float>(dy[i]) * static_cast<float>(weight[i]) *
           (static_cast<float>(x[i]) * rstd);
  });
  return sum / static_cast<float>(n);
}

template <class T>
inline void add_dweight_row(const T* dy, const T* x, float rstd, float* dweight, int64_t n) {
  each(n, [=](int64_t i) {
    dweight[i] += static_cast<float>(dy[i]) * (static_cast<float>(x[i]) * rstd);
  });
}

template <class T>
struct RowBackward {
  const T* dy;
  const T* x;
  const T* dresidual;  // may be null
  T* dx;               // may be dy
};

template <class T, class W>
inline void dx_row(RowBackward<T> row, const W* weight, float rstd, int64_t n) {
  const float along = mean_along_x(row.dy, row.x, weight, rstd, n);
  const auto dx = [=](int64_t i) {
    const float g = static_cast<float>(row.dy[i]) * static_cast<float>(weight[i]);
    return rstd * (g - static_cast<float>(row.x[i]) * rstd * along);
  };
  T* out = row.dx;
  const T* dresidual = row.dresidual;
  if (dresidual)
    each(n, [=](int64_t i) { out[i] = static_cast<T>(dx(i) + static_cast<float>(dresidual[i])); });
  else
    each(n, [=](int64_t i) { out[i] = static_cast<T>(dx(i)); });
}

// body(x's element, weight's element)
template <class Body>
void with_types(const Tensor& x, const Tensor& weight, const Body& body) {
  with_float_type(x.dtype(), [&](auto x_type) {
    with_float_type(weight.dtype(), [&](auto w_type) { body(x_type, w_type); });
  });
}

}  // namespace weft::ops::cpu
