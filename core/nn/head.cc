#include "core/nn/head.h"

#include <algorithm>
#include <numeric>

#include "core/ops/cross_entropy.h"
#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/matmul.h"
#include "core/ops/rms_norm.h"

namespace weft::nn {
namespace {

// What is known of a chunk's tokens; read once all chunks have been given to the device.
struct ChunkResult {
  Tensor loss;    // [C] f32
  Tensor argmax;  // [C] i32
};

HeadLoss read_results(const std::vector<ChunkResult>& chunks, const Tensor& labels,
                      std::vector<ScoredToken>* scored_tokens) {
  HeadLoss total;
  const int32_t* label = labels.data<int32_t>();
  for (const ChunkResult& chunk : chunks) {
    const Tensor losses = chunk.loss.to({}), argmax = chunk.argmax.to({});
    for (int64_t i = 0; i < losses.numel(); ++i, ++label) {
      const ScoredToken token{losses.data<float>()[i], argmax.data<int32_t>()[i] == *label};
      total.sum += token.loss;
      total.correct += token.correct;
      if (scored_tokens) scored_tokens->push_back(token);
    }
    total.tokens += losses.numel();
  }
  return total;
}

// A row without a label that goes through the head costs less than taking the others out, as long
// as there are few of them.
constexpr int64_t kRowsABlank = 512;

// The rows of x that go through the head.
Tensor scored_rows(const Tensor& x, const Step& step) {
  return step.scored_rows.numel() == x.dim(0) ? x : ops::embedding(x, step.scored_rows);
}

}  // namespace

// Chunks of nearly equal size: large enough for products to be fast, small beside what a block
// keeps. A CPU's fits its caches.
int64_t Head::rows_at_once(int64_t rows, int64_t vocab_size, DType dtype, Device device,
                           bool trains) {
  const bool on_cpu = device.is_cpu();
  const int64_t bytes = int64_t{1} << (on_cpu ? 26 : trains ? 31 : 29);
  const int64_t element = on_cpu ? 4 : static_cast<int64_t>(size_of(dtype));
  const int64_t most =
      std::clamp<int64_t>(bytes / (element * vocab_size), 16, on_cpu ? 1024 : 8192);
  const int64_t chunks = std::max<int64_t>(1, (rows + most - 1) / most);
  return (rows + chunks - 1) / chunks;
}

void Head::prepare(Step& step, Device device) {
  std::vector<int32_t> rows;
  const int32_t* labels = step.labels.data<int32_t>();
  for (int64_t t = 0; t < step.labels.numel(); ++t)
    if (labels[t] != ops::kIgnoredLabel) rows.push_back(static_cast<int32_t>(t));
  const int64_t all = step.labels.numel(), blank = all - static_cast<int64_t>(rows.size());
  if (step.mode == Mode::train && blank * kRowsABlank <= all) {
    rows.resize(static_cast<size_t>(all));
    std::iota(rows.begin(), rows.end(), 0);
  }
  const int64_t n = static_cast<int64_t>(rows.size());
  const Tensor both = Tensor::empty({2, n}, DType::i32);
  std::copy(rows.begin(), rows.end(), both.data<int32_t>());
  for (int64_t i = 0; i < n; ++i)
    both.data<int32_t>()[n + i] = labels[rows[static_cast<size_t>(i)]];
  const Tensor there = both.to(device);
  step.scored_rows = there.flat(0, {n});
  step.scored_labels = there.flat(n, {n});
}

Tensor Head::train(const Tensor& x, const Step& step) const {
  const Tensor x_ND = scored_rows(x, step);
  const int64_t n = x_ND.dim(0), vocab = weight_->shape[0];
  const ops::RmsNormResult norm = ops::rms_norm(x_ND, norm_->value, norm_eps_);
  const Tensor dnorm = Tensor::empty(norm.y.shape(), x.dtype(), x.device());
  const Tensor losses = Tensor::empty({n}, DType::f32, x.device());
  const int64_t chunk = rows_at_once(n, vocab, x.dtype(), x.device(), weight_->wants_grad());
  // A GPU's logits have x's dtype, as its products' other results do; what is made of them is f32.
  const DType logits_dtype = x.device().is_cpu() ? DType::f32 : x.dtype();
  Tensor buffer = Tensor::empty({chunk, vocab}, logits_dtype, x.device(), MemoryTag::workspace);
  for (int64_t begin = 0; begin < n; begin += chunk) {
    const int64_t end = std::min(n, begin + chunk);
    const Tensor y = norm.y.rows(begin, end), labels = step.scored_labels.rows(begin, end);
    const Tensor logits = buffer.rows(0, end - begin);
    ops::matmul(y, ops::transposed(weight_->value), logits);
    const ops::TokenLoss loss = ops::token_loss(ops::logits_stats(logits, labels), labels);
    losses.rows(begin, end).copy_from(loss.loss);
    ops::dlogits_in_place(logits, labels, loss.lse, step.loss_scale);
    const Tensor dlogits =
        x.dtype() == logits_dtype ? logits : ops::cast(logits, x.dtype(), MemoryTag::workspace);
    if (weight_->wants_grad())  // never queued: the chunks share one buffer
      ops::matmul(ops::transposed(dlogits), y, weight_->grad,
                  {.accumulate = !take_stale({weight_})});
    ops::matmul(dlogits, weight_->value, dnorm.rows(begin, end));
  }
  ops::sum(losses, step.loss_sum);
  const Tensor dscored =
      ops::rms_norm_backward({.dy_TD = dnorm,
                              .x_TD = x_ND,
                              .weight_D = norm_->value,
                              .rstd_T = norm.rstd,
                              .dresidual_TD = Tensor(),
                              .dweight_D = norm_->wants_grad() ? norm_->grad : Tensor()});
  if (n == x.dim(0)) return dscored;
  const Tensor dx = Tensor::zeros(x.shape(), x.dtype(), x.device());
  ops::embedding_backward(dscored, step.scored_rows, dx);  // rows are distinct: a scatter
  return dx;
}

HeadLoss Head::evaluate(const Tensor& x, const Step& step,
                        std::vector<ScoredToken>* scored_tokens) const {
  const Tensor x_ND = scored_rows(x, step);
  const int64_t n = x_ND.dim(0), vocab = weight_->shape[0];
  const Tensor y = ops::rms_norm(x_ND, norm_->value, norm_eps_).y;
  std::vector<ChunkResult> results;
  const int64_t chunk = rows_at_once(n, vocab, x.dtype(), x.device(), false);
  for (int64_t begin = 0; begin < n; begin += chunk) {
    const int64_t end = std::min(n, begin + chunk);
    const Tensor labels = step.scored_labels.rows(begin, end);
    const Tensor logits =
        Tensor::empty({end - begin, vocab}, DType::f32, x.device(), MemoryTag::workspace);
    ops::matmul(y.rows(begin, end), ops::transposed(weight_->value), logits);
    const ops::LogitsStats stats = ops::logits_stats(logits, labels);
    const ops::TokenLoss loss = ops::token_loss(stats, labels);
    results.push_back({loss.loss, stats.argmax});
  }
  return read_results(results, step.scored_labels.to({}), scored_tokens);
}

Tensor Head::logits(const Tensor& x) const {
  const Tensor y = ops::rms_norm(x, norm_->value, norm_eps_).y;
  Tensor logits = Tensor::empty({x.dim(0), weight_->shape[0]}, DType::f32, x.device());
  ops::matmul(y, ops::transposed(weight_->value), logits);
  return logits;
}

Tensor Head::logits(const Tensor& x, const std::vector<int32_t>& rows) const {
  Tensor indices = Tensor::empty({static_cast<int64_t>(rows.size())}, DType::i32);
  std::copy(rows.begin(), rows.end(), indices.data<int32_t>());
  return logits(ops::embedding(x, indices.to(x.device())));
}

}  // namespace weft::nn
