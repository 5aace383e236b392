// Hopper's matrix products: 64 rows by a warpgroup, operands in shared memory, sums in registers.
// Needs sm_90a.
#pragma once

#include <cuda_fp16.h>

#include <type_traits>

#include "kernels/cuda/hopper.cuh"

namespace weft::ops::cuda::hopper {

constexpr int kUnit = 16;  // bytes that a descriptor's places count

// Where a matrix lies in shared memory, swizzled by 128 bytes, in lines of 128 bytes: the lower
// half of its descriptor. Contiguous along the depth: a line is a row. Contiguous along its rows: a
// line is 64 rows at one depth, and chunks of 64 rows lie `leading` bytes apart. Adding n to it is
// n * kUnit bytes further.
__device__ inline uint32_t descriptor(const void* p, uint32_t leading) {
  return (shared_address(p) & 0x3FFFF) / kUnit | leading / kUnit << 16;
}
// The upper half: groups of 8 lines lie 1024 bytes apart.
constexpr uint32_t kUpperHalf = 1024 / kUnit | 1u << 30;

__device__ inline void begin_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ inline void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kInFlight>
__device__ inline void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kInFlight) : "memory");
}
template <int M, int N>
__device__ inline void hold(float (&sums)[M][N]) {
#pragma unroll
  for (int m = 0; m < M; ++m)
#pragma unroll
    for (int i = 0; i < N; ++i) asm volatile("" : "+f"(sums[m][i])::"memory");
}

#define WEFT_REGISTERS_64                                                            \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define WEFT_REGISTERS_80 \
  WEFT_REGISTERS_64       \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define WEFT_REGISTERS_84 WEFT_REGISTERS_80 ", %80, %81, %82, %83"
#define WEFT_REGISTERS_96 \
  WEFT_REGISTERS_84 ", %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define WEFT_SUMS_4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define WEFT_SUMS_16(d, i) \
  WEFT_SUMS_4(d, i), WEFT_SUMS_4(d, i + 4), WEFT_SUMS_4(d, i + 8), WEFT_SUMS_4(d, i + 12)
#define WEFT_SUMS_80(d)                                                              \
  WEFT_SUMS_16(d, 0), WEFT_SUMS_16(d, 16), WEFT_SUMS_16(d, 32), WEFT_SUMS_16(d, 48), \
      WEFT_SUMS_16(d, 64)
#define WEFT_SUMS_84(d) WEFT_SUMS_80(d), WEFT_SUMS_4(d, 80)
#define WEFT_SUMS_96(d) WEFT_SUMS_80(d), WEFT_SUMS_16(d, 80)

// n columns, `regs` = n / 2 sums; a, b, add, the transposition and the descriptors' upper half
// are the operands behind them.
#define WEFT_MULTIPLY(type, n, regs, a_at, b_at, add_at, columns_at, upper_at)            \
  asm volatile("{\n.reg .pred add;\n.reg .b64 a, b;\nmov.b64 a, {%" #a_at ", %" #upper_at \
               "};\nmov.b64 b, {%" #b_at ", %" #upper_at "};\nsetp.ne.b32 add, %" #add_at \
               ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type      \
               " {" WEFT_REGISTERS_##regs "}, a, b, add, 1, 1, %" #columns_at ", 0;\n}"   \
               : WEFT_SUMS_##regs(d)                                                      \
               : "r"(a), "r"(b), "r"(int{add}), "n"(int{kColumnsOfA}), "n"(kUpperHalf))

// sums[64, 2 * kSums] (=; += where `add`) a[64, 16] b[16, 2 * kSums], not before
// begin_products(). b is contiguous along the depth; a too, or along its columns (kColumnsOfA:
// as the transposed of what lies in memory). Of lane l, warp w: sums[4 j + 2 h + e] is of row
// 16 w + l / 4 + 8 h and column 8 j + l % 4 * 2 + e.
template <class T, bool kColumnsOfA, int kSums>
__device__ inline void multiply(float (&d)[kSums], uint32_t a, uint32_t b, bool add) {
  static_assert(kSums == 80 || kSums == 84 || kSums == 96);
  constexpr bool kF16 = std::is_same_v<T, __half>;
  if constexpr (kSums == 80 && kF16) {
    WEFT_MULTIPLY("f16", 160, 80, 80, 81, 82, 83, 84);
  } else if constexpr (kSums == 80) {
    WEFT_MULTIPLY("bf16", 160, 80, 80, 81, 82, 83, 84);
  } else if constexpr (kSums == 84 && kF16) {
    WEFT_MULTIPLY("f16", 168, 84, 84, 85, 86, 87, 88);
  } else if constexpr (kSums == 84) {
    WEFT_MULTIPLY("bf16", 168, 84, 84, 85, 86, 87, 88);
  } else if constexpr (kF16) {
    WEFT_MULTIPLY("f16", 192, 96, 96, 97, 98, 99, 100);
  } else {
    WEFT_MULTIPLY("bf16", 192, 96, 96, 97, 98, 99, 100);
  }
}

#undef WEFT_MULTIPLY
#undef WEFT_SUMS_96
#undef WEFT_SUMS_84
#undef WEFT_SUMS_80
#undef WEFT_SUMS_16
#undef WEFT_SUMS_4
#undef WEFT_REGISTERS_96
#undef WEFT_REGISTERS_84
#undef WEFT_REGISTERS_80
#undef WEFT_REGISTERS_64

}  // namespace weft::ops::cuda::hopper
