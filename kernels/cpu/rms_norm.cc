#include "core/ops/rms_norm.h"

#include "kernels/cpu/rms_norm_row.h"
#include "kernels/cpu/row_sums.h"

namespace weft::ops::cpu {
namespace {

template <class T>
inline void add_row(const T* x, const T* residual, T* sum, int64_t n) {
  each(n, [=](int64_t i) {
    sum[i] = static_cast<T>(static_cast<float>(x[i]) + static_cast<float>(residual[i]));
  });
}

template <class T>
T* data_or_null(const Tensor& t) {
  return t.defined() ? t.data<T>() : nullptr;
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

}  // namespace weft::ops::cpu
