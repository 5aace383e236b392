#include "core/ops/rms_norm.h"

#include <cmath>

#include "kernels/cpu/row_sums.h"
#include "kernels/cpu/vectorised.h"

namespace weft::ops::cpu {
namespace {

template <class T>
inline void add_row(const T* x, const T* residual, T* sum, int64_t n) {
  each(n, [=](int64_t i) {
    sum[i] = static_cast<T>(static_cast<float>(x[i]) + static_cast<float>(residual[i]));
  });
}

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

template <class T>
T* data_or_null(const Tensor& t) {
  return t.defined() ? t.data<T>() : nullptr;
}

// body(x's element, weight's element)
template <class Body>
void with_types(const Tensor& x, const Tensor& weight, const Body& body) {
  with_float_type(x.dtype(), [&](auto x_type) {
    with_float_type(weight.dtype(), [&](auto w_type) { body(x_type, w_type); });
  });
}

}  // namespace

void rms_norm(const RmsNormArgs& args) {
  const int64_t width = args.x_TD.dim(1);
  const float eps = args.eps;
  float* rstd = args.rstd_T.data<float>();
  with_types(args.x_TD, args.weight_D, [&](auto x_type, auto w_type) {
    using T = decltype(x_type);
    const T* x = args.x_TD.data<T>();
    const auto* weight = args.weight_D.data<decltype(w_type)>();
    const T* residual = data_or_null<T>(args.residual_TD);
    T* sum = data_or_null<T>(args.sum_TD);
    T* y = args.y_TD.data<T>();
    parallel_vectorised(args.x_TD.dim(0), 2 * width, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const T* row = x + t * width;
        if (residual) {
          add_row(row, residual + t * width, sum + t * width, width);
          row = sum + t * width;
        }
        rstd[t] = row_rstd(row, width, eps);
        normalise_row(row, weight, rstd[t], y + t * width, width);
      }
    });
  });
}

void rms_norm_rebuild(const Tensor& x_TD, const Tensor& weight_D, const Tensor& rstd_T,
                      const Tensor& y_TD) {
  const int64_t width = x_TD.dim(1);
  const float* rstd = rstd_T.data<float>();
  with_types(x_TD, weight_D, [&](auto x_type, auto w_type) {
    using T = decltype(x_type);
    const T* x = x_TD.data<T>();
    const auto* weight = weight_D.data<decltype(w_type)>();
    T* y = y_TD.data<T>();
    parallel_vectorised(x_TD.dim(0), width, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t)
        normalise_row(x + t * width, weight, rstd[t], y + t * width, width);
    });
  });
}

void rms_norm_backward(const RmsNormBackwardArgs& args, const Tensor& dx_TD) {
  const int64_t width = args.x_TD.dim(1);
  const float* rstd = args.rstd_T.data<float>();
  with_types(args.x_TD, args.weight_D, [&](auto x_type, auto w_type) {
    using T = decltype(x_type);
    const T* dy = args.dy_TD.data<T>();
    const T* x = args.x_TD.data<T>();
    const auto* weight = args.weight_D.data<decltype(w_type)>();
    const T* dresidual = data_or_null<T>(args.dresidual_TD);
    T* dx = dx_TD.data<T>();
    sum_rows(
        args.x_TD.dim(0), width, args.dweight_D, [&](int64_t begin, int64_t end, float* dweight) {
          for (int64_t t = begin; t < end; ++t) {
            const int64_t at = t * width;
            if (dweight) add_dweight_row(dy + at, x + at, rstd[t], dweight, width);
            const T* dresidual_row = dresidual ? dresidual + at : nullptr;
            dx_row(RowBackward<T>{dy + at, x + at, dresidual_row, dx + at}, weight, rstd[t], width);
          }
        });
  });
}

void head_rms_norm(const HeadRmsNormArgs& args) {
  const HeadNorm heads = args.heads;
  const int64_t row_width = args.x.dim(1);
  const float eps = args.eps;
  float* rstd = args.rstd.data<float>();
  with_types(args.x, args.weight, [&](auto x_type, auto w_type) {
    using T = decltype(x_type);
    const T* x = args.x.data<T>();
    const auto* weight = args.weight.data<decltype(w_type)>();
    T* y = args.y.data<T>();
    parallel_vectorised(
        args.x.dim(0), heads.num_heads * heads.head_dim, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin * heads.num_heads; i < end * heads.num_heads; ++i) {
            const int64_t head = heads.head_begin + i % heads.num_heads;
            const int64_t at = i / heads.num_heads * row_width + head * heads.head_dim;
            rstd[i] = row_rstd(x + at, heads.head_dim, eps);
            normalise_row(x + at, weight, rstd[i], y + at, heads.head_dim);
          }
        });
  });
}

void head_rms_norm_backward(const HeadRmsNormBackwardArgs& args) {
  const HeadNorm heads = args.heads;
  const int64_t row_width = args.x.dim(1);
  const float* rstd = args.rstd.data<float>();
  with_types(args.x, args.weight, [&](auto x_type, auto w_type) {
    using T = decltype(x_type);
    T* dy = args.dy.data<T>();
    const T* x = args.x.data<T>();
    const auto* weight = args.weight.data<decltype(w_type)>();
    // The rows to sum over are all heads of all tokens.
    sum_rows(args.x.dim(0) * heads.num_heads, heads.head_dim, args.dweight,
             [&](int64_t begin, int64_t end, float* dweight) {
               for (int64_t i = begin; i < end; ++i) {
                 const int64_t head = heads.head_begin + i % heads.num_heads;
                 const int64_t at = i / heads.num_heads * row_width + head * heads.head_dim;
                 if (dweight) add_dweight_row(dy + at, x + at, rstd[i], dweight, heads.head_dim);
                 dx_row(RowBackward<T>{dy + at, x + at, nullptr, dy + at}, weight, rstd[i],
                        heads.head_dim);
               }
             });
  });
}

}  // namespace weft::ops::cpu
