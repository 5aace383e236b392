// The light kernels' way to vector code: plain loops that the compiler vectorises, compiled for
// three instruction sets, chosen at run time. They are compiled without contraction to FMA and sum
// in 64 fixed lanes, so every instruction set gives the same bits. (Kernels that need tiles in
// registers use kernels/cpu/simd.h.)
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/base/cpu_features.h"
#include "core/base/error.h"
#include "core/base/threads.h"
#include "core/tensor/dtype.h"

namespace weft::ops::cpu {

// "flatten" inlines all that the body calls, so that it is compiled for the clone's instructions.
// (target_clones needs ifuncs, refuses x86-64-v4 before GCC 12, and does not reach lambdas.)
#if defined(__x86_64__)
template <class Body>
[[gnu::target("arch=x86-64-v4"), gnu::flatten, gnu::noinline]] void run_v4(const Body& body) {
  body();
}
template <class Body>
[[gnu::target("arch=x86-64-v3"), gnu::flatten, gnu::noinline]] void run_v3(const Body& body) {
  body();
}
#endif
template <class Body>
[[gnu::flatten, gnu::noinline]] void run_baseline(const Body& body) {
  body();
}

// body() with the best instructions here. Hot loops belong into functions that take pointers and
// scalars by value: what a lambda captures by reference is reloaded in every iteration.
template <class Body>
void vectorised(const Body& body) {
#if defined(__x86_64__)
  if (vector_isa() == VectorIsa::avx512) return run_v4(body);
  if (vector_isa() == VectorIsa::avx2) return run_v3(body);
#endif
  run_baseline(body);
}

// body(begin, end) on ranges that cover [0, n), in parallel, vectorised. An item costs about
// `item_elements` elements of work.
template <class Body>
void parallel_vectorised(int64_t n, int64_t item_elements, const Body& body) {
  constexpr int64_t kElementsWorthAThread = 16384;
  const int64_t grain = kElementsWorthAThread / std::max<int64_t>(item_elements, 1);
  parallel_for(n, std::max<int64_t>(grain, 1),
               [&](int64_t begin, int64_t end) { vectorised([&] { body(begin, end); }); });
}

// f(i) for i in [0, n); the f(i) are independent, though one may overwrite what it read itself.
template <class F>
inline void each(int64_t n, const F& f) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) f(i);
}

constexpr int kLanes = 16;

// The sum of term(i) for i in [0, n): lane i % 64 adds its terms in order, then halves are added.
template <class Float = float, class Term>
inline Float sum_in_lanes(int64_t n, const Term& term) {
  Float lane[4 * kLanes] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes)
    for (int group = 0; group < 4 * kLanes; group += kLanes)
      for (int j = 0; j < kLanes; ++j) lane[group + j] += term(i + group + j);
  for (int j = 0; i + j < n; ++j) lane[j] += term(i + j);
  for (int j = 0; j < 32; ++j) lane[j] += lane[j + 32];
  for (int j = 0; j < 16; ++j) lane[j] += lane[j + 16];
  for (int j = 0; j < 8; ++j) lane[j] += lane[j + 8];
  for (int j = 0; j < 4; ++j) lane[j] += lane[j + 4];
  return (lane[0] + lane[2]) + (lane[1] + lane[3]);
}

// f(T{}) with T the element type of a floating-point dtype that ops compute with.
template <class F>
void with_float_type(DType dtype, const F& f) {
  if (dtype == DType::f32) return f(float{});
  if (dtype == DType::bf16) return f(bf16{});
  fail(ErrorKind::internal, "no CPU kernel for dtype {}", name_of(dtype));
}

}  // namespace weft::ops::cpu
