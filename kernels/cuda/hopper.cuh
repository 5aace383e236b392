// Hopper's instructions around its matrix products (wgmma.cuh): tensor copies to and from shared
// memory, and the barriers that they complete. Needs sm_90a.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace weft::ops::cuda::hopper {

__device__ inline uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// --- barriers ------------------------------------------------------------------------------------

__device__ inline void init_barrier(uint64_t& bar, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&bar)),
               "r"(arrivals));
}
__device__ inline void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ inline void arrive_expecting(uint64_t& bar, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&bar)),
               "r"(bytes)
               : "memory");
}
__device__ inline void arrive(uint64_t& bar) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&bar)) : "memory");
}
// At the barrier of the same place in block `rank` of the cluster.
__device__ inline void arrive_at(uint64_t& bar, uint32_t rank) {
  asm volatile(
      "{\n.reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n}" ::"r"(shared_address(&bar)),
      "r"(rank)
      : "memory");
}
__device__ inline void wait(uint64_t& bar, uint32_t parity) {
  asm volatile(
      "{\n.reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra ready;\n"
      "bra again;\n"
      "ready:\n}" ::"r"(shared_address(&bar)),
      "r"(parity)
      : "memory");
}
__device__ inline uint32_t cluster_rank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ inline void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::
                   : "memory");
}

// --- tensor copies -------------------------------------------------------------------------------

// The map's box at (x, y), x along the contiguous dimension; outside of the matrix it is zeros.
__device__ inline void copy_box(void* to, const CUtensorMap& map, uint64_t& bar, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
      "%4}], [%2];" ::"r"(shared_address(to)),
      "l"(&map), "r"(shared_address(&bar)), "r"(x), "r"(y)
      : "memory");
}
// To the same place of all blocks in `mask`, each of whose barriers counts the bytes.
__device__ inline void copy_box_to(uint16_t mask, void* to, const CUtensorMap& map, uint64_t& bar,
                                   int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::"
      "cluster [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(shared_address(to)),
      "l"(&map), "r"(shared_address(&bar)), "r"(x), "r"(y), "h"(mask)
      : "memory");
}

// From shared memory; what lies outside of the matrix is not written.
__device__ inline void store_box(const CUtensorMap& map, const void* from, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&map),
      "r"(shared_address(from)), "r"(x), "r"(y)
      : "memory");
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
// This thread's stores but the newest kNewest have read shared memory.
template <int kNewest>
__device__ inline void wait_stores_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kNewest) : "memory");
}
// Orders this thread's writes of shared memory before copies that read them.
__device__ inline void publish_shared() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ inline void warpgroup_sync(int which) {
  asm volatile("bar.sync %0, 128;" ::"r"(which) : "memory");
}
// Two 8 x 8 matrices, transposed; lane l < 16 says where row l % 8 of matrix l / 8 lies.
__device__ inline void store_transposed(void* row, const uint32_t (&v)[2]) {
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(shared_address(row)),
      "r"(v[0]), "r"(v[1])
      : "memory");
}
__device__ inline void load_transposed(uint32_t (&v)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(v[0]), "=r"(v[1])
               : "r"(shared_address(row))
               : "memory");
}

// --- registers of the warpgroup ------------------------------------------------------------------

template <int kRegisters>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace weft::ops::cuda::hopper
