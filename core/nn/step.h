// What a micro-batch is: everything that a layer may need beside its input.
#pragma once

#include <vector>

#include "core/nn/weight_grads.h"
#include "core/ops/attention.h"
#include "core/tensor/tensor.h"

namespace weft::nn {

enum class Mode { train, evaluate, generate };

// Keys and values of earlier tokens, for generation. Row r of layer l holds one token of one
// sequence; who owns which rows is the generator's business (Step::documents and Step::cache_rows
// say it).
struct KvCache {
  std::vector<Tensor> keys;    // a layer: [rows, num_kv_heads * head_dim]
  std::vector<Tensor> values;  // a layer: [rows, num_kv_heads * head_dim]
};

// T tokens of several documents, one after the other; documents do not see each other.
struct Step {
  Mode mode = Mode::train;
  Tensor ids;         // [T] i32; like the other tensors where the model is
  Tensor positions;   // [T] i32, from 0 in each document
  Tensor labels;      // [T] i32, on the host: the token that follows, or ops::kIgnoredLabel;
                      // undefined when generating
  Tensor sample_ids;  // [T] i64: the record that a token came from (dropout's key)
  std::vector<ops::AttentionDocument> documents;
  Tensor rope_table;  // [T, head_dim], filled by the model (Decoder::prepare)

  float loss_scale =
      1;  // 1 / trained tokens of the whole global batch: gradients are per trained token
  uint64_t seed = 0;                    // dropout
  uint64_t number = 0;                  // dropout: the optimizer step
  bool deterministic = true;            // the same bits on every run; false: what is faster
  WeightGrads* weight_grads = nullptr;  // required in Mode::train

  KvCache* cache = nullptr;         // Mode::generate only
  std::vector<int64_t> cache_rows;  // [T]: where this token's key and value go

  int64_t num_tokens() const { return ids.numel(); }
};

}  // namespace weft::nn
