// A fixed set of sequences that get a token each a step. All that changes from step to step is in
// tensors where the model is, so a GPU runs the second step on from a recording (DeviceGraph).
#pragma once

#include <cstdint>
#include <vector>

#include "core/ops/kv_cache.h"
#include "core/tensor/device_graph.h"
#include "recipes/model.h"

namespace weft::recipes {

// A sequence's rows of the cache, [begin, end), of which the first `length` are filled.
struct CachePlace {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t length = 0;
};

class DecodeBatch {
 public:
  // The cache must outlive it. Every place has room for a token.
  DecodeBatch(const Model& model, nn::KvCache& cache, const std::vector<CachePlace>& places,
              bool greedy);
  DecodeBatch(const DecodeBatch&) = delete;
  DecodeBatch& operator=(const DecodeBatch&) = delete;

  // The tokens that run next; waits until they are there.
  void set_ids(const std::vector<int32_t>& ids);
  // Runs them, each at the next row of its sequence, and leaves logits(); greedy: also the
  // likeliest tokens in ids(), which run next. Asynchronous on a GPU. A sequence that is full goes
  // over its last row again.
  void run();

  const Tensor& ids() const { return step_.ids; }      // [B] i32, where the model is
  const Tensor& logits() const { return logits_BV_; }  // f32, of the latest step

 private:
  void step();

  const Model& model_;
  bool greedy_;
  nn::Step step_;
  ops::CachePlaces places_;
  Tensor logits_BV_;
  int64_t steps_ = 0;
  DeviceGraph graph_;
};

Tensor i32_tensor(const std::vector<int32_t>& values, Device device);

}  // namespace weft::recipes
