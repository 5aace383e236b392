// Tensor cores through mma.sync: 16 x 8 x 16 products of bf16 or f16 in f32, and the warp's loads
// of their operands from shared memory. Lane l holds of a 16 x 8 result rows l / 4 (elements 0, 1)
// and l / 4 + 8 (2, 3), columns 2 (l % 4) and the next.
// GPUs before 8.0 lack these instructions; there kernels that use them compile, and trap.
#pragma once

#include "kernels/cuda/cuda.cuh"

namespace weft::ops::cuda::mma {

__device__ inline unsigned shared_address(const void* at) {
  return static_cast<unsigned>(__cvta_generic_to_shared(at));
}

// Four 8 x 8 matrices of 2-byte elements; lane l gives the address (16-byte aligned) of row l % 8
// of matrix l / 8.
__device__ inline void load_matrices(unsigned (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ inline void load_matrices_transposed(unsigned (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row))
               : "memory");
}

// The reverse of load_matrices.
__device__ inline void store_matrices(void* row, const unsigned (&from)[4]) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(shared_address(row)),
      "r"(from[0]), "r"(from[1]), "r"(from[2]), "r"(from[3])
      : "memory");
#else
  __trap();  // kernels that use it need the shared memory of 9.0
#endif
}

// c[16, 8] += a[16, 16] b[16, 8].
__device__ inline void product(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1,
                               __nv_bfloat16) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  __trap();
#endif
}
__device__ inline void product(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1,
                               __half) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  __trap();
#endif
}

// 16 bytes into shared memory without passing registers, or 16 zero bytes, for which nothing is
// read. Arrives with wait_for_copies (of the thread that copied).
__device__ inline void copy_16_bytes(void* to, const void* from, bool real) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
               "l"(__cvta_generic_to_global(from)), "r"(real ? 16 : 0)
               : "memory");
#else
  __trap();
#endif
}
__device__ inline void copy_4_bytes(void* to, const void* from, bool real) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)),
               "l"(__cvta_generic_to_global(from)), "r"(real ? 4 : 0)
               : "memory");
#else
  __trap();
#endif
}
__device__ inline void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_all;" ::: "memory");
#else
  __trap();
#endif
}

// What the thread copied since the last time is a group; waits for all of its groups but the newest
// kNewest.
__device__ inline void end_copy_group() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  __trap();
#endif
}
template <int kNewest>
__device__ void wait_for_copy_groups() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kNewest) : "memory");
#else
  __trap();
#endif
}

// Two values as a lane holds them of an operand, `low` in the lower half.
template <class T>
__device__ unsigned pack(float low, float high);
template <>
__device__ inline unsigned pack<__nv_bfloat16>(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  unsigned bits;
  memcpy(&bits, &pair, sizeof bits);
  return bits;
}
template <>
__device__ inline unsigned pack<__half>(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  unsigned bits;
  memcpy(&bits, &pair, sizeof bits);
  return bits;
}
template <class T>
__device__ float2 unpack(unsigned word);
template <>
__device__ inline float2 unpack<__nv_bfloat16>(unsigned word) {
  return {__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u)};
}
template <>
__device__ inline float2 unpack<__half>(unsigned word) {
  __half2 pair;
  memcpy(&pair, &word, sizeof pair);
  return __half22float2(pair);
}

}  // namespace weft::ops::cuda::mma
