// What the attention kernels share: how documents are cut into blocks, and what a kernel is given.
// No block looks past its document, and blocks never write the same element, so their order does
// not matter.
#pragma once

#include <algorithm>
#include <vector>

#include "core/ops/attention.h"
#include "kernels/cuda/cuda.cuh"

namespace weft::ops::cuda {

// Rows [first, first + a kernel's rows) of a document: queries, or keys for dk and dv.
struct AttentionBlock {
  int64_t q_begin;
  int64_t q_len;
  int64_t kv_begin;
  int64_t kv_len;
  int64_t first;

  // Query i sees keys 0 .. offset() + i.
  __host__ __device__ int64_t offset() const { return kv_len - q_len; }
};

// Given to every kernel by value. A unit of work (a thread block) is a block of one head.
struct AttentionParams {
  const AttentionBlock* blocks;  // on the GPU
  HeadsView q, k, v, o;
  HeadsView dout, dq, dk, dv;
  float* lse;    // [Tq, num_heads]; null: not wanted
  float* delta;  // [Tq, num_heads], the backward's sum of do * o
  int num_heads;
  int group;  // query heads that share a kv head
  int head_dim;
  float scale;
  bool vectors;  // heads of all views lie at multiples of 16 bytes and are that long
};

// Row `row` of head `head`.
template <class T>
__device__ T* head_row(const HeadsView& view, int64_t row, int head, const AttentionParams& p) {
  return static_cast<T*>(view.data) + row * view.row_stride + int64_t{head} * p.head_dim;
}

// The kernels of one strategy, over `count` blocks of the rows that it wants.
struct AttentionRows {
  int queries;     // of a block of queries, forward
  int queries_dq;  // of a block of queries, backward
  int keys;        // of a block of keys
};

// Plain multiply-adds in f32: any dtype, any head_dim.
namespace fma {
AttentionRows rows();
void forward(DType dtype, const AttentionParams& params, int64_t count, cudaStream_t stream);
void backward_queries(DType dtype, const AttentionParams& params, int64_t count,
                      cudaStream_t stream);
void backward_keys(DType dtype, const AttentionParams& params, int64_t count, cudaStream_t stream);
}  // namespace fma

// The tensor cores: bf16 and f16, head_dim up to 256.
namespace tensor {
bool takes(const AttentionArgs& args);
AttentionRows rows(int64_t head_dim);
void forward(DType dtype, const AttentionParams& params, int64_t count, cudaStream_t stream);
void backward_queries(DType dtype, const AttentionParams& params, int64_t count,
                      cudaStream_t stream);
void backward_keys(DType dtype, const AttentionParams& params, int64_t count, cudaStream_t stream);
}  // namespace tensor

// Documents of one query each.
namespace decode {
bool takes(const AttentionArgs& args);
void forward(const AttentionArgs& args, cudaStream_t stream);
}  // namespace decode

// Documents cut into blocks of `rows` queries or keys, those with most work first so that the GPU's
// processors end together.
std::vector<AttentionBlock> query_blocks(const std::vector<AttentionDocument>& documents, int rows);
std::vector<AttentionBlock> key_blocks(const std::vector<AttentionDocument>& documents, int rows);

// A copy of a list of work on the GPU; ordered on the compute stream, `list` may go at once: it is
// pageable, so the driver has staged it on return.
template <class T>
Tensor upload(const std::vector<T>& list, Device device, cudaStream_t stream) {
  const size_t bytes = list.size() * sizeof(T);
  const Tensor copy =
      Tensor::empty({static_cast<int64_t>(bytes)}, DType::u8, device, MemoryTag::workspace);
  check(cudaMemcpyAsync(copy.raw(), list.data(), bytes, cudaMemcpyHostToDevice, stream),
        "attention");
  return copy;
}

// All but blocks and delta.
AttentionParams attention_params(const AttentionArgs& args,
                                 const AttentionBackwardArgs* backward = nullptr);

// Thread blocks of a launch: `count` blocks x heads x parts.
inline unsigned units_of(int64_t count, int64_t heads, int64_t parts = 1) {
  const int64_t units = count * heads * parts;
  CHECK(units > 0 && units < (int64_t{1} << 31), "[attention] {} units of work", units);
  return static_cast<unsigned>(units);
}

}  // namespace weft::ops::cuda
