// What launching the adapters' kernels has in common.
#pragma once

#include <type_traits>

#include "core/ops/adapter_gradients.h"
#include "kernels/cuda/cuda.cuh"

namespace weft::ops::cuda::adapter {

// Whether the GPU has what the kernels need: tensor cores and copies past registers (8.0), and
// shared memory.
inline bool has_room(Device device, int bytes) {
  int most = 0;
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device.index),
        "asking for the shared memory of a block");
  return device_memory::has_bf16(device.index) && most >= bytes;
}

// The kernels take what lies whole in chunks of 8 elements of 16 bits.
inline bool lies_in_chunks(const Tensor& t) {
  return reinterpret_cast<uintptr_t>(t.raw()) % 16 == 0 &&
         t.dim(static_cast<int>(t.rank()) - 1) % 8 == 0;
}
inline bool are_chunks(int64_t ranks, int64_t most) {
  return ranks > 0 && ranks <= most && ranks % 8 == 0;
}
// Of a segment's B, of its gradient if it has one, and of where its columns and ranks begin.
inline bool lies_in_chunks(const AdapterSegment& s) {
  return (s.column | s.rank | s.columns()) % 8 == 0 && lies_in_chunks(s.b_NR) &&
         (!s.db_NR.defined() || lies_in_chunks(s.db_NR));
}

inline void* element(const Tensor& t, int64_t index) {
  return static_cast<char*>(t.raw()) + index * static_cast<int64_t>(size_of(t.dtype()));
}

// Calls f(T(), std::integral_constant<int, kRanks>()) for bf16 or f16 and the smallest of the given
// kRanks that holds `ranks`.
template <int kFirst, int... kOthers, class F>
void dispatch_ranks(DType dtype, int64_t ranks, F&& f) {
  if constexpr (sizeof...(kOthers) > 0) {
    if (ranks > kFirst) return dispatch_ranks<kOthers...>(dtype, ranks, f);
  }
  constexpr std::integral_constant<int, kFirst> most;
  dtype == DType::bf16 ? f(__nv_bfloat16(), most) : f(__half(), most);
}

}  // namespace weft::ops::cuda::adapter
