#include "core/ops/elementwise.h"

#include <cstring>

#include "kernels/cpu/half.h"
#include "kernels/cpu/vectorised.h"

namespace weft::ops::cpu {
namespace {

template <class T>
inline void add_range(const T* a, const T* b, T* y, int64_t n) {
  each(n, [=](int64_t i) { y[i] = from_float<T>(to_float(a[i]) + to_float(b[i])); });
}

template <class X, class Y>
inline void axpy_range(float alpha, const X* x, Y* y, int64_t n) {
  each(n, [=](int64_t i) { y[i] = from_float<Y>(to_float(y[i]) + alpha * to_float(x[i])); });
}

template <class T>
inline void scale_range(T* x, float factor, int64_t n) {
  each(n, [=](int64_t i) { x[i] = from_float<T>(to_float(x[i]) * factor); });
}

template <class S, class D>
inline void cast_range(const S* src, D* dst, int64_t n) {
  each(n, [=](int64_t i) { dst[i] = from_float<D>(to_float(src[i])); });
}

template <class A, class B>
inline void divide_range(const A* a, const B* b, float* y, int64_t n) {
  each(n, [=](int64_t i) { y[i] = to_float(a[i]) / to_float(b[i]); });
}

template <class F>
void with_storage_type(DType dtype, const F& f) {
  if (dtype == DType::f16) return f(f16{});
  with_float_type(dtype, f);
}

// The sum over x of term(element), an f64, in chunks that are added in order.
template <class Term>
double sum_in_chunks(const Tensor& x, const Term& term) {
  constexpr int64_t kChunk = 16384;
  const int64_t num_chunks = (x.numel() + kChunk - 1) / kChunk;
  const Tensor partials = Tensor::empty({num_chunks}, DType::f64, {}, MemoryTag::workspace);
  double* partial = partials.data<double>();
  with_float_type(x.dtype(), [&](auto type) {
    const auto* data = x.data<decltype(type)>();
    parallel_vectorised(num_chunks, kChunk, [&](int64_t begin, int64_t end) {
      for (int64_t chunk = begin; chunk < end; ++chunk) {
        const auto* p = data + chunk * kChunk;
        partial[chunk] =
            sum_in_lanes<double>(std::min(kChunk, x.numel() - chunk * kChunk),
                                 [p, &term](int64_t i) { return term(to_float(p[i])); });
      }
    });
  });
  double total = 0;
  for (int64_t chunk = 0; chunk < num_chunks; ++chunk) total += partial[chunk];
  return total;
}

}  // namespace

void add(const Tensor& a, const Tensor& b, const Tensor& y) {
  with_float_type(a.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* pa = a.data<T>();
    const T* pb = b.data<T>();
    T* py = y.data<T>();
    parallel_vectorised(a.numel(), 1, [&](int64_t begin, int64_t end) {
      add_range(pa + begin, pb + begin, py + begin, end - begin);
    });
  });
}

void axpy(float alpha, const Tensor& x, const Tensor& y) {
  with_float_type(x.dtype(), [&](auto x_type) {
    with_float_type(y.dtype(), [&](auto y_type) {
      const auto* px = x.data<decltype(x_type)>();
      auto* py = y.data<decltype(y_type)>();
      parallel_vectorised(x.numel(), 1, [&](int64_t begin, int64_t end) {
        axpy_range(alpha, px + begin, py + begin, end - begin);
      });
    });
  });
}

void scale_in_place(const Tensor& x, float factor) {
  with_float_type(x.dtype(), [&](auto type) {
    auto* px = x.data<decltype(type)>();
    parallel_vectorised(x.numel(), 1, [&](int64_t begin, int64_t end) {
      scale_range(px + begin, factor, end - begin);
    });
  });
}

void cast(const Tensor& src, const Tensor& dst) {
  if (src.dtype() == dst.dtype())
    return copy(src.reshape({1, src.numel()}), dst.reshape({1, dst.numel()}));
  with_storage_type(src.dtype(), [&](auto src_type) {
    with_storage_type(dst.dtype(), [&](auto dst_type) {
      const auto* from = src.data<decltype(src_type)>();
      auto* to = dst.data<decltype(dst_type)>();
      parallel_vectorised(src.numel(), 1, [&](int64_t begin, int64_t end) {
        cast_range(from + begin, to + begin, end - begin);
      });
    });
  });
}

void divide(const Tensor& a, const Tensor& b, const Tensor& y) {
  with_float_type(a.dtype(), [&](auto a_type) {
    with_float_type(b.dtype(), [&](auto b_type) {
      const auto* pa = a.data<decltype(a_type)>();
      const auto* pb = b.data<decltype(b_type)>();
      float* py = y.data<float>();
      parallel_vectorised(a.numel(), 1, [&](int64_t begin, int64_t end) {
        divide_range(pa + begin, pb + begin, py + begin, end - begin);
      });
    });
  });
}

void sum(const Tensor& x, const Tensor& out) {
  *out.data<double>() = sum_in_chunks(x, [](double value) { return value; });
}

void sums_of_squares(const std::vector<Tensor>& tensors, const Tensor& out) {
  double* sum = out.data<double>();
  for (const Tensor& x : tensors)
    *sum++ = sum_in_chunks(x, [](double value) { return value * value; });
}

void fill(const Tensor& x, float value) {
  with_float_type(x.dtype(), [&](auto type) {
    using T = decltype(type);
    T* px = x.data<T>();
    parallel_for(x.numel(), 65536, [&](int64_t begin, int64_t end) {
      std::fill(px + begin, px + end, from_float<T>(value));
    });
  });
}

void zero(const std::vector<Tensor>& tensors) {
  for (const Tensor& x : tensors) x.zero_();
}

}  // namespace weft::ops::cpu
