// What the attention kernels share: how documents are cut into blocks, and what a kernel is given.
// No block looks past its document, and blocks never write the same element, so their order does
// not matter.
#pragma once

#include <algorithm>
#include <initializer_list>
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

// cuDNN's fused attention: false where it does not take the call (why_not in attention_cudnn.cu is
// the rule). o and lse are those of our own kernels, so that either's backward may follow.
namespace cudnn {
bool forward(const AttentionArgs& args, cudaStream_t stream);
bool backward(const AttentionBackwardArgs& args, cudaStream_t stream);
}  // namespace cudnn

// A list of work on the GPU, made of documents and a few numbers.
struct KeptList {
  Tensor on_gpu;  // undefined where the list is empty
  int64_t count = 0;

  template <class T>
  T* data() const {
    return static_cast<T*>(on_gpu.raw());
  }
};

// The lists of work there are. Layers and micro-batches ask for the same ones: each is made and
// uploaded when it is first asked for, ordered on the compute stream, and kept while it is among
// the last few. One that a CUDA graph captures stays for good; it must have been asked for before.
class KeptLists {
 public:
  enum Kind : int64_t { queries, keys, decode_rows, cudnn_starts };
  using Key = std::vector<int64_t>;  // starts with the GPU and the kind

  static Key key_of(Device device, Kind kind, std::initializer_list<int64_t> numbers,
                    const std::vector<AttentionDocument>& documents);
  // make() returns a std::vector.
  template <class Make>
  static KeptList get(const Key& key, cudaStream_t stream, Make&& make) {
    KeptList kept;
    if (find(key, stream, kept)) return kept;
    const auto list = make();
    const int64_t count = static_cast<int64_t>(list.size());
    return add(key, stream, list.data(), count, list.size() * sizeof(list[0]));
  }

 private:
  static bool find(const Key& key, cudaStream_t stream, KeptList& kept);
  static KeptList add(const Key& key, cudaStream_t stream, const void* list, int64_t count,
                      size_t bytes);
};

// Documents cut into blocks of `rows` queries or keys, those with most work first so that the GPU's
// processors end together.
KeptList query_blocks(const AttentionArgs& args, int rows, cudaStream_t stream);
KeptList key_blocks(const AttentionArgs& args, int rows, cudaStream_t stream);

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
