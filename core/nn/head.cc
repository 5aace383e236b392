#include "core/nn/head.h"

#include <algorithm>

#include "core/ops/cross_entropy.h"
#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/matmul.h"
#include "core/ops/rms_norm.h"

namespace weft::nn {
namespace {

constexpr int64_t kChunkBytes = int64_t{64} << 20;  // of f32 logits

// Chunks of nearly equal size that cover `rows`.
int64_t rows_at_once(int64_t rows, int64_t vocab_size) {
  const int64_t most = std::clamp<int64_t>(kChunkBytes / (4 * vocab_size), 16, 1024);
  const int64_t chunks = std::max<int64_t>(1, (rows + most - 1) / most);
  return (rows + chunks - 1) / chunks;
}

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

}  // namespace

struct Head::Scored {
  Tensor rows;         // [N] i32
  Tensor host_labels;  // [N] i32
  Tensor labels;       // the same where x is
  Tensor x_ND;
};

Head::Scored Head::gather(const Tensor& x, const Step& step) const {
  std::vector<int32_t> rows;
  const int32_t* labels = step.labels.data<int32_t>();
  for (int64_t t = 0; t < step.labels.numel(); ++t)
    if (labels[t] != ops::kIgnoredLabel) rows.push_back(static_cast<int32_t>(t));
  const int64_t n = static_cast<int64_t>(rows.size());
  Tensor host_rows = Tensor::empty({n}, DType::i32), host_labels = Tensor::empty({n}, DType::i32);
  for (int64_t i = 0; i < n; ++i) {
    host_rows.data<int32_t>()[i] = rows[i];
    host_labels.data<int32_t>()[i] = labels[rows[i]];
  }
  Scored scored{host_rows.to(x.device()), host_labels, host_labels.to(x.device()), x};
  if (n != x.dim(0)) scored.x_ND = ops::embedding(x, scored.rows);
  return scored;
}

HeadLoss Head::train(const Tensor& x, const Step& step, Tensor& dx) const {
  const Scored scored = gather(x, step);
  const int64_t n = scored.labels.numel(), vocab = weight_->shape[0];
  const ops::RmsNormResult norm = ops::rms_norm(scored.x_ND, norm_->value, norm_eps_);
  const Tensor dnorm = Tensor::empty(norm.y.shape(), x.dtype(), x.device());
  const int64_t chunk = rows_at_once(n, vocab);
  Tensor buffer = Tensor::empty({chunk, vocab}, DType::f32, x.device(), MemoryTag::workspace);
  std::vector<ChunkResult> results;
  for (int64_t begin = 0; begin < n; begin += chunk) {
    const int64_t end = std::min(n, begin + chunk);
    const Tensor y = norm.y.rows(begin, end), labels = scored.labels.rows(begin, end);
    const Tensor logits = buffer.rows(0, end - begin);
    ops::matmul(y, ops::transposed(weight_->value), logits);
    const ops::LogitsStats stats = ops::logits_stats(logits, labels);
    const ops::TokenLoss loss = ops::token_loss(stats, labels);
    results.push_back({loss.loss, stats.argmax});
    ops::dlogits_in_place(logits, labels, loss.lse, step.loss_scale);
    const Tensor dlogits =
        x.dtype() == DType::f32 ? logits : ops::cast(logits, x.dtype(), MemoryTag::workspace);
    if (weight_->wants_grad())  // never queued: the chunks share one buffer
      ops::matmul(ops::transposed(dlogits), y, weight_->grad, {.accumulate = true});
    ops::matmul(dlogits, weight_->value, dnorm.rows(begin, end));
  }
  const Tensor dscored =
      ops::rms_norm_backward({.dy_TD = dnorm,
                              .x_TD = scored.x_ND,
                              .weight_D = norm_->value,
                              .rstd_T = norm.rstd,
                              .dresidual_TD = Tensor(),
                              .dweight_D = norm_->wants_grad() ? norm_->grad : Tensor()});
  if (n == x.dim(0)) {
    dx = dscored;
  } else {
    dx = Tensor::zeros(x.shape(), x.dtype(), x.device());
    ops::embedding_backward(dscored, scored.rows, dx);  // rows are distinct: a scatter
  }
  return read_results(results, scored.host_labels, nullptr);
}

HeadLoss Head::evaluate(const Tensor& x, const Step& step,
                        std::vector<ScoredToken>* scored_tokens) const {
  const Scored scored = gather(x, step);
  const int64_t n = scored.labels.numel(), vocab = weight_->shape[0];
  const Tensor y = ops::rms_norm(scored.x_ND, norm_->value, norm_eps_).y;
  std::vector<ChunkResult> results;
  const int64_t chunk = rows_at_once(n, vocab);
  for (int64_t begin = 0; begin < n; begin += chunk) {
    const int64_t end = std::min(n, begin + chunk);
    const Tensor labels = scored.labels.rows(begin, end);
    const Tensor logits =
        Tensor::empty({end - begin, vocab}, DType::f32, x.device(), MemoryTag::workspace);
    ops::matmul(y.rows(begin, end), ops::transposed(weight_->value), logits);
    const ops::LogitsStats stats = ops::logits_stats(logits, labels);
    const ops::TokenLoss loss = ops::token_loss(stats, labels);
    results.push_back({loss.loss, stats.argmax});
  }
  return read_results(results, scored.host_labels, scored_tokens);
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
