#include "recipes/generator.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/error.h"
#include "core/base/rng.h"

namespace weft::recipes {

struct Generator::Sequence {
  const GenerateRequest* request = nullptr;
  Generated result;
  size_t index = 0;
  int64_t cache_begin = 0;       // its first row in the cache
  int64_t length = 0;            // tokens in the cache
  std::vector<int32_t> pending;  // tokens to run next: the prompt, then one
  bool done = false;
};

const char* name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop_token:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::caller:
      return "caller";
  }
  return "?";
}

int32_t sample(const float* logits, int64_t vocab_size, const Sampling& sampling, float draw) {
  if (sampling.temperature <= 0)
    return static_cast<int32_t>(std::max_element(logits, logits + vocab_size) - logits);
  std::vector<int32_t> order(static_cast<size_t>(vocab_size));
  std::iota(order.begin(), order.end(), 0);
  int64_t kept = sampling.top_k > 0 ? std::min(sampling.top_k, vocab_size) : vocab_size;
  std::partial_sort(order.begin(), order.begin() + kept, order.end(), [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  std::vector<double> weights(static_cast<size_t>(kept));
  double total = 0;
  for (int64_t i = 0; i < kept; ++i)
    total += weights[i] = std::exp((logits[order[i]] - logits[order[0]]) / sampling.temperature);
  double within = 0;
  for (int64_t i = 0; i < kept; ++i) {
    within += weights[i];
    if (within >= sampling.top_p * total) kept = i + 1;
  }
  double target = draw * within;
  for (int64_t i = 0; i < kept; ++i) {
    target -= weights[i];
    if (target < 0) return order[i];
  }
  return order[kept - 1];
}

void Generator::check(const std::vector<GenerateRequest>& requests) const {
  const int64_t longest = model_.config.max_sequence();
  for (const GenerateRequest& request : requests) {
    const int64_t prompt = static_cast<int64_t>(request.prompt.size());
    if (prompt == 0) fail(ErrorKind::bad_data, "[generate] the prompt has no tokens");
    if (prompt >= longest)
      fail(ErrorKind::bad_data,
           "[generate] the prompt has {} tokens, the model takes at most {}: shorten it", prompt,
           longest);
    for (int32_t id : request.prompt)
      if (id < 0 || id >= model_.config.vocab_size)
        fail(ErrorKind::bad_data, "[generate] token id {} is outside the vocabulary of {}", id,
             model_.config.vocab_size);
  }
}

nn::KvCache Generator::make_cache(int64_t rows) const {
  nn::KvCache cache;
  const Shape shape{rows, model_.config.num_key_value_heads * model_.config.head_dim};
  const DType dtype = model_.decoder->parameters()[0]->dtype;
  for (int64_t i = 0; i < model_.config.num_hidden_layers; ++i) {
    cache.keys.push_back(Tensor::empty(shape, dtype, model_.device));
    cache.values.push_back(Tensor::empty(shape, dtype, model_.device));
  }
  return cache;
}

// Runs what is pending of each sequence; logits of each one's last token.
Tensor Generator::forward(const std::vector<Sequence*>& active, nn::KvCache& cache) const {
  nn::Step step;
  step.mode = nn::Mode::generate;
  step.cache = &cache;
  std::vector<int32_t> ids, positions, last_rows;
  for (Sequence* s : active) {
    const int64_t count = static_cast<int64_t>(s->pending.size());
    step.documents.push_back({.q_begin = static_cast<int64_t>(ids.size()),
                              .q_len = count,
                              .kv_begin = s->cache_begin,
                              .kv_len = s->length + count});
    for (int32_t id : s->pending) {
      ids.push_back(id);
      positions.push_back(static_cast<int32_t>(s->length));
      step.cache_rows.push_back(s->cache_begin + s->length++);
    }
    last_rows.push_back(static_cast<int32_t>(ids.size()) - 1);
    s->pending.clear();
  }
  const int64_t tokens = static_cast<int64_t>(ids.size());
  const auto to_device = [&](const std::vector<int32_t>& values) {
    const Tensor host = Tensor::empty({tokens}, DType::i32);
    std::copy(values.begin(), values.end(), host.data<int32_t>());
    return host.to(model_.device);
  };
  step.ids = to_device(ids);
  step.positions = to_device(positions);
  model_.decoder->prepare(step);
  return model_.decoder->logits(step, last_rows, model_.hooks()).to({});
}

void Generator::take(Sequence& s, int32_t token) const {
  const bool stop = std::find(stop_ids_.begin(), stop_ids_.end(), token) != stop_ids_.end();
  if (!stop) s.result.ids.push_back(token);
  const bool wanted = !s.request->on_token || s.request->on_token(token);
  const int64_t made = static_cast<int64_t>(s.result.ids.size());
  const bool full = made >= s.request->max_new_tokens || s.length >= model_.config.max_sequence();
  s.done = stop || !wanted || full;
  if (s.done)
    s.result.finish = stop      ? FinishReason::stop_token
                      : !wanted ? FinishReason::caller
                                : FinishReason::length;
  s.pending = {token};
}

std::vector<Generated> Generator::generate(const std::vector<GenerateRequest>& requests) const {
  check(requests);
  std::vector<Sequence> sequences(requests.size());
  int64_t rows = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    Sequence& s = sequences[i];
    s.request = &requests[i];
    s.index = i;
    s.pending = requests[i].prompt;
    s.cache_begin = rows;
    s.done = requests[i].max_new_tokens <= 0;
    rows += std::min<int64_t>(static_cast<int64_t>(s.pending.size()) + requests[i].max_new_tokens,
                              model_.config.max_sequence());
  }
  nn::KvCache cache = make_cache(rows);
  while (true) {
    std::vector<Sequence*> active;
    for (Sequence& s : sequences)
      if (!s.done) active.push_back(&s);
    if (active.empty()) break;
    const Tensor logits = forward(active, cache);
    for (size_t i = 0; i < active.size(); ++i) {
      Sequence& s = *active[i];
      const uint64_t key = mix(s.request->sampling.seed, s.index);
      const float draw =
          to_unit_float(philox({static_cast<uint32_t>(s.length), 0, 0, 0}, philox_key(key))[0]);
      take(s,
           sample(logits.rows(static_cast<int64_t>(i), static_cast<int64_t>(i) + 1).data<float>(),
                  logits.dim(1), s.request->sampling, draw));
    }
  }
  std::vector<Generated> results;
  for (Sequence& s : sequences) results.push_back(std::move(s.result));
  return results;
}

}  // namespace weft::recipes
