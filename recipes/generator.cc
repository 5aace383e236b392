#include "recipes/generator.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <numeric>

#include "core/base/error.h"
#include "core/base/rng.h"
#include "core/ops/argmax.h"
#include "core/tensor/readback.h"
#include "recipes/decode_batch.h"

namespace weft::recipes {
namespace {

// Steps that a GPU is given before the tokens of the first of them are looked at: it never waits
// for the host.
constexpr int64_t kAhead = 2;

}  // namespace

struct Generator::Sequence {
  const GenerateRequest* request = nullptr;
  Generated result;
  size_t index = 0;
  int64_t cache_begin = 0;  // its rows of the cache
  int64_t cache_end = 0;
  int64_t length = 0;  // tokens in the cache
  int32_t next = 0;    // the token to run next
  bool done = false;

  // Tokens that it may still get.
  int64_t left(int64_t max_sequence) const {
    return std::min(request->max_new_tokens - static_cast<int64_t>(result.ids.size()),
                    max_sequence - length);
  }
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

// Fills the cache with the prompts; logits of each one's last token.
Tensor Generator::run_prompts(const Sequences& sequences, nn::KvCache& cache) const {
  nn::Step step;
  step.mode = nn::Mode::generate;
  step.cache = &cache;
  std::vector<int32_t> ids, positions, cache_rows, last_rows;
  for (Sequence* s : sequences) {
    const std::vector<int32_t>& prompt = s->request->prompt;
    const int64_t count = static_cast<int64_t>(prompt.size());
    step.documents.push_back({.q_begin = static_cast<int64_t>(ids.size()),
                              .q_len = count,
                              .kv_begin = s->cache_begin,
                              .kv_len = count});
    for (; s->length < count; ++s->length) {
      ids.push_back(prompt[static_cast<size_t>(s->length)]);
      positions.push_back(static_cast<int32_t>(s->length));
      cache_rows.push_back(static_cast<int32_t>(s->cache_begin + s->length));
    }
    last_rows.push_back(static_cast<int32_t>(ids.size()) - 1);
  }
  step.ids = i32_tensor(ids, model_.device);
  step.positions = i32_tensor(positions, model_.device);
  step.cache_rows = i32_tensor(cache_rows, model_.device);
  model_.decoder->prepare(step);
  return model_.decoder->logits(step, last_rows, model_.hooks());
}

bool Generator::all_greedy(const Sequences& sequences) {
  return std::all_of(sequences.begin(), sequences.end(),
                     [](const Sequence* s) { return s->request->sampling.temperature <= 0; });
}

std::vector<CachePlace> Generator::places(const Sequences& sequences) {
  std::vector<CachePlace> all;
  for (const Sequence* s : sequences) all.push_back({s->cache_begin, s->cache_end, s->length});
  return all;
}

// Each sequence's next token by its own sampling.
void Generator::choose(const Sequences& sequences, const Tensor& logits_BV) const {
  const bool greedy = all_greedy(sequences);
  Tensor greatest;
  if (greedy) {
    greatest = Tensor::empty({logits_BV.dim(0)}, DType::i32, model_.device);
    ops::argmax(logits_BV, greatest);
    greatest = greatest.to({});
  }
  const Tensor logits = greedy ? Tensor() : logits_BV.to({});
  for (size_t i = 0; i < sequences.size(); ++i) {
    Sequence& s = *sequences[i];
    if (s.done) continue;
    if (greedy) {
      take(s, greatest.data<int32_t>()[i]);
      continue;
    }
    const uint64_t key = mix(s.request->sampling.seed, s.index);
    const float draw =
        to_unit_float(philox({static_cast<uint32_t>(s.length), 0, 0, 0}, philox_key(key))[0]);
    const int64_t row = static_cast<int64_t>(i);
    take(s,
         sample(logits.rows(row, row + 1).data<float>(), logits.dim(1), s.request->sampling, draw));
  }
}

// Whether these sequences, of which some have ended, go on together. A GPU carries ended ones along
// until they are half: to leave them out costs it a new recording.
bool Generator::keep(const Sequences& sequences) const {
  const auto done =
      std::count_if(sequences.begin(), sequences.end(), [](const Sequence* s) { return s->done; });
  return done == 0 || (!model_.device.is_cpu() && 2 * done < std::ssize(sequences));
}

// A token at a time until keep() says no.
void Generator::decode(const Sequences& sequences, nn::KvCache& cache) const {
  DecodeBatch batch(model_, cache, places(sequences), /*greedy=*/false);
  while (keep(sequences)) {
    std::vector<int32_t> ids;
    for (const Sequence* s : sequences) ids.push_back(s->next);
    batch.set_ids(ids);
    batch.run();
    for (Sequence* s : sequences) s->length += !s->done;
    choose(sequences, batch.logits());
  }
}

// The same where every choice is the model's own: ids stay where the model is and reach the host
// kAhead steps late. What was already given to the GPU is run to its end.
void Generator::decode_greedily(const Sequences& sequences, nn::KvCache& cache) const {
  DecodeBatch batch(model_, cache, places(sequences), /*greedy=*/true);
  std::vector<int32_t> ids;
  int64_t steps = 0;
  for (const Sequence* s : sequences) {
    ids.push_back(s->next);
    steps = std::max(steps, s->left(model_.config.max_sequence()));
  }
  batch.set_ids(ids);
  const int64_t ahead = model_.device.is_cpu() ? 0 : kAhead;
  std::deque<Readback> on_their_way;
  for (int64_t given = 0, taken = 0; taken < steps; ++taken) {
    for (; given < steps && given <= taken + ahead; ++given) {
      batch.run();
      on_their_way.emplace_back(batch.ids());
    }
    const Tensor chosen = on_their_way.front().get();
    on_their_way.pop_front();
    for (size_t i = 0; i < sequences.size(); ++i) {
      Sequence& s = *sequences[i];
      if (s.done) continue;
      ++s.length;
      take(s, chosen.data<int32_t>()[i]);
    }
    if (!keep(sequences)) steps = given;
  }
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
  s.next = token;
}

std::vector<Generated> Generator::generate(const std::vector<GenerateRequest>& requests) const {
  check(requests);
  std::vector<Sequence> sequences(requests.size());
  int64_t rows = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    Sequence& s = sequences[i];
    s.request = &requests[i];
    s.index = i;
    s.cache_begin = rows;
    s.done = requests[i].max_new_tokens <= 0;
    if (s.done) continue;
    rows += std::min<int64_t>(
        static_cast<int64_t>(requests[i].prompt.size()) + requests[i].max_new_tokens,
        model_.config.max_sequence());
    s.cache_end = rows;
  }
  nn::KvCache cache = make_cache(rows);
  const auto active = [&] {
    Sequences some;
    for (Sequence& s : sequences)
      if (!s.done) some.push_back(&s);
    return some;
  };
  if (const Sequences started = active(); !started.empty())
    choose(started, run_prompts(started, cache));
  for (Sequences some = active(); !some.empty(); some = active()) {
    all_greedy(some) ? decode_greedily(some, cache) : decode(some, cache);
  }
  std::vector<Generated> results;
  for (Sequence& s : sequences) results.push_back(std::move(s.result));
  return results;
}

}  // namespace weft::recipes
