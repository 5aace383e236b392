#include "recipes/evaluator.h"

#include <algorithm>
#include <cmath>

#include "core/ops/cross_entropy.h"
#include "recipes/batch_step.h"

namespace weft::recipes {
namespace {

// Past the last example from `begin` on that fits into `max_tokens` (at least one).
int64_t batch_end(const data::Dataset& dataset, int64_t begin, int64_t end, int64_t max_tokens) {
  int64_t tokens = 0, i = begin;
  for (; i < end; ++i) {
    tokens += static_cast<int64_t>(dataset.example(i).ids.size());
    if (i > begin && tokens > max_tokens) break;
  }
  return i;
}

// Scored tokens come in order of the batch: document by document.
void count_answers(const data::Dataset& dataset, int64_t begin, const data::Batch& batch,
                   const std::vector<nn::ScoredToken>& scored, Evaluation& result) {
  size_t next = 0;
  for (size_t d = 0; d < batch.documents.size(); ++d) {
    const ops::AttentionDocument& document = batch.documents[d];
    const data::ExampleView example = dataset.example(begin + static_cast<int64_t>(d));
    bool all_correct = true;
    for (int64_t t = 0; t < document.q_len; ++t) {
      if (batch.labels.data<int32_t>()[document.q_begin + t] == ops::kIgnoredLabel) continue;
      const bool correct = scored[next++].correct;
      const int64_t target = t + 1;  // the end of turn stands at answer_end
      if (target >= example.answer_begin && target <= example.answer_end) all_correct &= correct;
    }
    if (example.answer_begin < 0) continue;
    result.labelled += 1;
    result.correct += all_correct;
  }
}

// Adds the ranks' sums.
void reduce(Evaluation& result, parallel::Communicator& ranks) {
  Tensor sums = Tensor::empty({5}, DType::f64);
  double* s = sums.data<double>();
  s[0] = result.loss;
  s[1] = static_cast<double>(result.tokens);
  s[2] = static_cast<double>(result.records);
  s[3] = static_cast<double>(result.labelled);
  s[4] = static_cast<double>(result.correct);
  ranks.all_reduce(sums, parallel::Reduce::sum, "evaluation").wait();
  result.tokens = static_cast<int64_t>(s[1]);
  result.loss = result.tokens ? s[0] / s[1] : 0;
  result.records = static_cast<int64_t>(s[2]);
  result.labelled = static_cast<int64_t>(s[3]);
  result.correct = static_cast<int64_t>(s[4]);
}

}  // namespace

double Evaluation::perplexity() const {
  return std::exp(loss);
}

// Wilson 1927: the interval of a proportion, right for small counts too.
double Evaluation::wilson(double sign) const {
  if (labelled == 0) return 0;
  const double n = static_cast<double>(labelled), p = accuracy(), z = 1.959964;
  const double centre = p + z * z / (2 * n);
  const double half = z * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  return std::clamp((centre + sign * half) / (1 + z * z / n), 0.0, 1.0);
}

Json Evaluation::to_json() const {
  Json json;
  json.set("loss", loss);
  json.set("perplexity", perplexity());
  json.set("tokens", tokens);
  json.set("records", records);
  if (labelled > 0) {
    json.set("accuracy", accuracy());
    json.set("accuracy_low", accuracy_low());
    json.set("accuracy_high", accuracy_high());
    json.set("correct", correct);
    json.set("labelled", labelled);
  }
  return json;
}

Evaluation evaluate(const Model& model, const data::Dataset& dataset,
                    const EvaluatorOptions& options, parallel::Communicator& ranks) {
  const int64_t all =
      options.max_records > 0 ? std::min(options.max_records, dataset.size()) : dataset.size();
  const int64_t first = all * ranks.rank() / ranks.size();
  const int64_t last = all * (ranks.rank() + 1) / ranks.size();
  Evaluation result;
  for (int64_t begin = first; begin < last;) {
    const int64_t end = batch_end(dataset, begin, last, options.max_tokens);
    const data::Batch batch = data::evaluation_batch(dataset, begin, end);
    const nn::Step step = make_step(batch, nn::Mode::evaluate, model);
    std::vector<nn::ScoredToken> scored;
    const nn::HeadLoss loss = model.decoder->evaluate(step, model.hooks(), &scored);
    result.loss += loss.sum;
    result.tokens += loss.tokens;
    result.records += end - begin;
    count_answers(dataset, begin, batch, scored, result);
    begin = end;
  }
  reduce(result, ranks);
  return result;
}

}  // namespace weft::recipes
