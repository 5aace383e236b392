// Hopper's matrix products: 64 rows by a warpgroup, operands in shared memory, sums in registers.
// Needs sm_90a.
#pragma once

#include <cuda_fp16.h>

#include <type_traits>

#include "kernels/cuda/hopper.cuh"

namespace weft::ops::cuda::hopper {

// A matrix in shared memory, swizzled by 128 bytes; strides in bytes. Where it is contiguous along
// the depth: stride = between groups of 8 rows. Where it is contiguous along its rows: leading =
// between chunks of 64, stride = between groups of 8 of the depth.
__device__ inline uint64_t descriptor(const void* p, uint32_t leading, uint32_t stride) {
  return static_cast<uint64_t>((shared_address(p) & 0x3FFFF) >> 4) |
         static_cast<uint64_t>(leading >> 4) << 16 | static_cast<uint64_t>(stride >> 4) << 32 |
         uint64_t{1} << 62;
}
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
template <int N>
__device__ inline void hold(float (&sums)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(sums[i])::"memory");
}

#define WEFT_REGISTERS_0                                                   \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define WEFT_REGISTERS_32                                                            \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define WEFT_REGISTERS_64                                                            \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define WEFT_REGISTERS_96                                                                        \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define WEFT_SUMS_8(d, i)                                                                     \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define WEFT_SUMS_32(d, i) \
  WEFT_SUMS_8(d, i), WEFT_SUMS_8(d, i + 8), WEFT_SUMS_8(d, i + 16), WEFT_SUMS_8(d, i + 24)

#define WEFT_MULTIPLY_192(type)                                                          \
  asm volatile(                                                                          \
      "{\n.reg .pred add;\nsetp.ne.b32 add, %98, 0;\n"                                   \
      "wgmma.mma_async.sync.aligned.m64n192k16.f32." type "." type " {" WEFT_REGISTERS_0 \
      ", " WEFT_REGISTERS_32 ", " WEFT_REGISTERS_64 "}, %96, %97, add, 1, 1, 0, %99;\n}" \
      : WEFT_SUMS_32(d, 0), WEFT_SUMS_32(d, 32), WEFT_SUMS_32(d, 64)                     \
      : "l"(a), "l"(b), "r"(int{add}), "n"(int{kRowsOfB}))
#define WEFT_MULTIPLY_256(type)                                                           \
  asm volatile(                                                                           \
      "{\n.reg .pred add;\nsetp.ne.b32 add, %130, 0;\n"                                   \
      "wgmma.mma_async.sync.aligned.m64n256k16.f32." type "." type " {" WEFT_REGISTERS_0  \
      ", " WEFT_REGISTERS_32 ", " WEFT_REGISTERS_64 ", " WEFT_REGISTERS_96                \
      "}, %128, %129, add, 1, 1, 0, %131;\n}"                                             \
      : WEFT_SUMS_32(d, 0), WEFT_SUMS_32(d, 32), WEFT_SUMS_32(d, 64), WEFT_SUMS_32(d, 96) \
      : "l"(a), "l"(b), "r"(int{add}), "n"(int{kRowsOfB}))

// sums[64, 2 * kSums] (=; += where `add`) a[64, 16] b[16, 2 * kSums], not before begin_products().
// kRowsOfB: b is contiguous along its rows. Of lane l, warp w: sums[4 j + 2 h + e] is of row
// 16 w + l / 4 + 8 h and column 8 j + l % 4 * 2 + e.
template <class T, bool kRowsOfB, int kSums>
__device__ inline void multiply(float (&d)[kSums], uint64_t a, uint64_t b, bool add) {
  static_assert(kSums == 96 || kSums == 128);
  if constexpr (kSums == 96 && std::is_same_v<T, __half>) {
    WEFT_MULTIPLY_192("f16");
  } else if constexpr (kSums == 96) {
    WEFT_MULTIPLY_192("bf16");
  } else if constexpr (std::is_same_v<T, __half>) {
    WEFT_MULTIPLY_256("f16");
  } else {
    WEFT_MULTIPLY_256("bf16");
  }
}

#undef WEFT_MULTIPLY_256
#undef WEFT_MULTIPLY_192
#undef WEFT_SUMS_32
#undef WEFT_SUMS_8
#undef WEFT_REGISTERS_0
#undef WEFT_REGISTERS_32
#undef WEFT_REGISTERS_64
#undef WEFT_REGISTERS_96

}  // namespace weft::ops::cuda::hopper
