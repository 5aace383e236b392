// What a micro-batch is: everything that a layer may need beside its input.
#pragma once

#include <vector>

#include "core/nn/weight_grads.h"
#include "core/ops/attention.h"
#include "core/tensor/tensor.h"

namespace weft::nn {

enum class Mode { train, evaluate, generate };

// Keys and values of earlier tokens, for generation. Row r of layer l holds one token of one
// sequence; who owns which rows is the generator's business.
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
  // Filled by Decoder::prepare.
  Tensor rope_table;     // [T, head_dim]
  Tensor scored_rows;    // [N] i32: the tokens that have a label, or all where nearly all have
  Tensor scored_labels;  // [N] i32: their labels

  // Mode::train, where the model is. The gradients' factor [1] f32: 1 / trained tokens of the whole
  // global batch, times the loss scale of fp16; and where the loss goes [1] f64 (=): the sum over
  // the scored tokens of -log p(label).
  Tensor loss_scale;
  Tensor loss_sum;
  uint64_t seed = 0;                    // dropout
  uint64_t number = 0;                  // dropout: the optimizer step
  bool deterministic = true;            // the same bits on every run; false: what is faster
  WeightGrads* weight_grads = nullptr;  // required in Mode::train

  // Mode::generate only.
  KvCache* cache = nullptr;
  Tensor cache_rows;  // [T] i32, where the model is: where this token's key and value go
  // Where every token is the last of its sequence (decoding) a token's keys are the cache's rows
  // decode_first[t] .. cache_rows[t], at most decode_longest of them, and `documents` is not read.
  Tensor
      decode_first;  // [T] i32, where the model is; undefined: `documents` count the cache's rows
  int64_t decode_longest = 0;

  int64_t num_tokens() const { return ids.numel(); }
};

}  // namespace weft::nn
