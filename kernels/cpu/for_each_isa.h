// Compiles a file of kernels once for every instruction set of this architecture, each copy in its
// own namespace, and picks the copy at run time. A kernel's .cc file says
//
//   #define WEFT_SIMD_FILE "kernels/cpu/rms_norm_simd.h"
//   #include "kernels/cpu/for_each_isa.h"
//
// where rms_norm_simd.h has no include guard, includes nothing of its own (what it needs is
// included before) and puts its functions into an anonymous namespace (names are the file's own)
// inside `namespace weft::ops::cpu::WEFT_ISA`, where kernels/cpu/simd.h has put the vector type and
// its functions. The .cc file then calls, in weft::ops::cpu,
//
//   SIMD_DISPATCH(rms_norm_rows<T>)(args...)
//
// Inside, call no function that is neither of that namespace nor inlined: it would not be compiled
// for the instruction set. Intended to be included once, outside of every namespace.
#include <bit>
#include <cstdint>
#include <cstring>

#include "core/base/cpu_features.h"
#include "core/tensor/dtype.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define WEFT_ISA isa_baseline
#define WEFT_LANES 4
#include "kernels/cpu/simd.h"
#include WEFT_SIMD_FILE
#undef WEFT_ISA
#undef WEFT_LANES

#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2,f16c,lzcnt,movbe,popcnt")
#define WEFT_ISA isa_avx2
#define WEFT_LANES 8
#include "kernels/cpu/simd.h"
#include WEFT_SIMD_FILE
#undef WEFT_ISA
#undef WEFT_LANES
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2,f16c,lzcnt,movbe,popcnt")
#pragma GCC target("avx512f,avx512bw,avx512cd,avx512dq,avx512vl,prefer-vector-width=512")
#define WEFT_ISA isa_avx512
#define WEFT_LANES 16
#include "kernels/cpu/simd.h"
#include WEFT_SIMD_FILE
#undef WEFT_ISA
#undef WEFT_LANES
#pragma GCC pop_options

#define SIMD_DISPATCH(...)                                                      \
  (::weft::vector_isa() == ::weft::VectorIsa::avx512 ? &isa_avx512::__VA_ARGS__ \
   : ::weft::vector_isa() == ::weft::VectorIsa::avx2 ? &isa_avx2::__VA_ARGS__   \
                                                     : &isa_baseline::__VA_ARGS__)

#else  // one copy; arm64 has NEON in its baseline

#define WEFT_ISA isa_baseline
#define WEFT_LANES 4
#include "kernels/cpu/simd.h"
#include WEFT_SIMD_FILE
#undef WEFT_ISA
#undef WEFT_LANES
#define SIMD_DISPATCH(...) (&isa_baseline::__VA_ARGS__)

#endif
#undef WEFT_SIMD_FILE
