// The ops of core/ops/elementwise.h on views of matrices: copies, biases and DoRA's vectors.
#include <cmath>
#include <cstring>

#include "core/ops/elementwise.h"
#include "kernels/cpu/row_sums.h"
#include "kernels/cpu/vectorised.h"

namespace weft::ops::cpu {
namespace {

template <class T>
T* row_of(const Matrix& m, int64_t row) {
  return static_cast<T*>(m.data) + row * m.row_stride;
}

template <class T, class V>
inline void add_vector(T* y, const V* vector, int64_t n) {
  each(n, [=](int64_t i) {
    y[i] = static_cast<T>(static_cast<float>(y[i]) + static_cast<float>(vector[i]));
  });
}

template <class T, class V>
inline void multiply_vector(T* y, const V* vector, int64_t n) {
  each(n, [=](int64_t i) {
    y[i] = static_cast<T>(static_cast<float>(y[i]) * static_cast<float>(vector[i]));
  });
}

template <class T>
inline void add_product(const T* a, const T* b, float* sum, int64_t n) {
  each(n, [=](int64_t i) { sum[i] += static_cast<float>(a[i]) * static_cast<float>(b[i]); });
}

template <class T>
inline float row_norm(const T* w, int64_t n) {
  return std::sqrt(sum_in_lanes(n, [=](int64_t i) {
    const float value = static_cast<float>(w[i]);
    return value * value;
  }));
}

}  // namespace

void copy(const Matrix& src_TN, const Matrix& dst_TN) {
  const int64_t size = static_cast<int64_t>(size_of(src_TN.dtype));
  const int64_t row_bytes = src_TN.cols * size;
  const char* src = static_cast<const char*>(src_TN.data);
  char* dst = static_cast<char*>(dst_TN.data);
  if (row_bytes == 0) return;
  constexpr int64_t kBytesWorthAThread = 65536;
  if (src_TN.rows == 1)
    return parallel_for(row_bytes, kBytesWorthAThread, [=](int64_t begin, int64_t end) {
      std::memmove(dst + begin, src + begin, static_cast<size_t>(end - begin));
    });
  const int64_t src_stride = src_TN.row_stride * size;
  const int64_t dst_stride = dst_TN.row_stride * size;
  parallel_for(src_TN.rows, std::max<int64_t>(1, kBytesWorthAThread / row_bytes),
               [=](int64_t begin, int64_t end) {
                 for (int64_t row = begin; row < end; ++row)
                   std::memmove(dst + row * dst_stride, src + row * src_stride,
                                static_cast<size_t>(row_bytes));
               });
}

void add_bias(const Matrix& y_TN, const Tensor& bias_N) {
  with_float_type(y_TN.dtype, [&](auto y_type) {
    with_float_type(bias_N.dtype(), [&](auto bias_type) {
      const auto* bias = bias_N.data<decltype(bias_type)>();
      parallel_vectorised(y_TN.rows, y_TN.cols, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t)
          add_vector(row_of<decltype(y_type)>(y_TN, t), bias, y_TN.cols);
      });
    });
  });
}

void bias_backward(const Matrix& dy_TN, const Tensor& dbias_N) {
  with_float_type(dy_TN.dtype, [&](auto type) {
    sum_rows(dy_TN.rows, dy_TN.cols, dbias_N, [&](int64_t begin, int64_t end, float* sums) {
      for (int64_t t = begin; t < end; ++t)
        add_vector(sums, row_of<const decltype(type)>(dy_TN, t), dy_TN.cols);
    });
  });
}

void scale_columns(const Matrix& y_TN, const Tensor& factor_N) {
  with_float_type(y_TN.dtype, [&](auto y_type) {
    with_float_type(factor_N.dtype(), [&](auto factor_type) {
      const auto* factor = factor_N.data<decltype(factor_type)>();
      parallel_vectorised(y_TN.rows, y_TN.cols, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t)
          multiply_vector(row_of<decltype(y_type)>(y_TN, t), factor, y_TN.cols);
      });
    });
  });
}

void column_dot(const Matrix& a_TN, const Matrix& b_TN, const Tensor& out_N) {
  with_float_type(a_TN.dtype, [&](auto type) {
    using T = const decltype(type);
    sum_rows(a_TN.rows, a_TN.cols, out_N, [&](int64_t begin, int64_t end, float* sums) {
      for (int64_t t = begin; t < end; ++t)
        add_product(row_of<T>(a_TN, t), row_of<T>(b_TN, t), sums, a_TN.cols);
    });
  });
}

void row_norms(const Tensor& w_NK, const Tensor& norms_N) {
  const int64_t width = w_NK.dim(1);
  float* norms = norms_N.data<float>();
  with_float_type(w_NK.dtype(), [&](auto type) {
    const auto* w = w_NK.data<decltype(type)>();
    parallel_vectorised(w_NK.dim(0), width, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) norms[row] = row_norm(w + row * width, width);
    });
  });
}

}  // namespace weft::ops::cpu
