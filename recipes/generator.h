// Generation: a class with a batch of sequences and their KV cache.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "recipes/decode_batch.h"
#include "recipes/model.h"

namespace weft::recipes {

struct Sampling {
  double temperature = 0;  // 0: greedy, the lowest id among equals
  double top_p = 1;        // smallest set of likeliest tokens with at least this much probability
  int64_t top_k = 0;       // 0: all
  uint64_t seed = 0;
};

struct GenerateRequest {
  std::vector<int32_t> prompt;  // at least one token
  int64_t max_new_tokens = 256;
  Sampling sampling;
  // Called with each new token (stop tokens too); false ends the sequence.
  std::function<bool(int32_t)> on_token;
};

enum class FinishReason { stop_token, length, caller };
const char* name_of(FinishReason reason);  // "stop", "length", "caller"

struct Generated {
  std::vector<int32_t> ids;  // new tokens, a final stop token left out
  FinishReason finish = FinishReason::length;
};

class Generator {
 public:
  // stop_ids end a sequence (the model's end-of-sequence and end-of-turn tokens).
  Generator(const Model& model, std::vector<int32_t> stop_ids)
      : model_(model), stop_ids_(std::move(stop_ids)) {}

  // All requests side by side: one pass over the prompts, then one a token. Draws depend on (seed,
  // index of the request, position) only. Where every request is greedy, a GPU runs a few tokens
  // ahead of on_token; what it makes behind a sequence's end is dropped. Throws bad_data when a
  // prompt and its answer do not fit into the model.
  std::vector<Generated> generate(const std::vector<GenerateRequest>& requests) const;

 private:
  struct Sequence;
  using Sequences = std::vector<Sequence*>;
  static bool all_greedy(const Sequences& sequences);
  static std::vector<CachePlace> places(const Sequences& sequences);
  void check(const std::vector<GenerateRequest>& requests) const;
  nn::KvCache make_cache(int64_t rows) const;
  Tensor run_prompts(const Sequences& sequences, nn::KvCache& cache) const;
  void decode(const Sequences& sequences, nn::KvCache& cache) const;
  void decode_greedily(const Sequences& sequences, nn::KvCache& cache) const;
  bool keep(const Sequences& sequences) const;
  void choose(const Sequences& sequences, const Tensor& logits) const;
  void take(Sequence& sequence, int32_t token) const;

  const Model& model_;
  std::vector<int32_t> stop_ids_;
};

// The next token from logits[V] (f32), by `sampling`; `draw` in [0, 1).
int32_t sample(const float* logits, int64_t vocab_size, const Sampling& sampling, float draw);

}  // namespace weft::recipes
