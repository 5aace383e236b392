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

void add_chunk(const ops::TokenLoss& loss, const ops::LogitsStats& stats, const Tensor& labels,
               HeadLoss& total) {
  for (int64_t i = 0; i < labels.numel(); ++i) {
    total.sum += loss.loss.data<float>()[i];
    total.correct += stats.argmax.data<int32_t>()[i] == labels.data<int32_t>()[i];
  }
  total.tokens += labels.numel();
}

}  // namespace

struct Head::Scored {
  Tensor rows;    // [N] i32
  Tensor labels;  // [N] i32
  Tensor x_ND;
};

Head::Scored Head::gather(const Tensor& x, const Step& step) const {
  std::vector<int32_t> rows;
  const int32_t* labels = step.labels.data<int32_t>();
  for (int64_t t = 0; t < step.labels.numel(); ++t)
    if (labels[t] != ops::kIgnoredLabel) rows.push_back(static_cast<int32_t>(t));
  const int64_t n = static_cast<int64_t>(rows.size());
  Scored scored{Tensor::empty({n}, DType::i32), Tensor::empty({n}, DType::i32), x};
  for (int64_t i = 0; i < n; ++i) {
    scored.rows.data<int32_t>()[i] = rows[i];
    scored.labels.data<int32_t>()[i] = labels[rows[i]];
  }
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
  HeadLoss total;
  for (int64_t begin = 0; begin < n; begin += chunk) {
    const int64_t end = std::min(n, begin + chunk);
    const Tensor y = norm.y.rows(begin, end), labels = scored.labels.rows(begin, end);
    const Tensor logits = buffer.rows(0, end - begin);
    ops::matmul(y, ops::transposed(weight_->value), logits);
    const ops::LogitsStats stats = ops::logits_stats(logits, labels);
    const ops::TokenLoss loss = ops::token_loss(stats, labels);
    add_chunk(loss, stats, labels, total);
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
  return total;
}

HeadLoss Head::evaluate(const Tensor& x, const Step& step,
                        std::vector<ScoredToken>* scored_tokens) const {
  const Scored scored = gather(x, step);
  const int64_t n = scored.labels.numel(), vocab = weight_->shape[0];
  const Tensor y = ops::rms_norm(scored.x_ND, norm_->value, norm_eps_).y;
  HeadLoss total;
  const int64_t chunk = rows_at_once(n, vocab);
  for (int64_t begin = 0; begin < n; begin += chunk) {
    const int64_t end = std::min(n, begin + chunk);
    const Tensor labels = scored.labels.rows(begin, end);
    const Tensor logits =
        Tensor::empty({end - begin, vocab}, DType::f32, x.device(), MemoryTag::workspace);
    ops::matmul(y.rows(begin, end), ops::transposed(weight_->value), logits);
    const ops::LogitsStats stats = ops::logits_stats(logits, labels);
    const ops::TokenLoss loss = ops::token_loss(stats, labels);
    add_chunk(loss, stats, labels, total);
    for (int64_t i = 0; scored_tokens && i < labels.numel(); ++i)
      scored_tokens->push_back({loss.loss.data<float>()[i],
                                stats.argmax.data<int32_t>()[i] == labels.data<int32_t>()[i]});
  }
  return total;
}

Tensor Head::logits(const Tensor& x, const std::vector<int32_t>& rows) const {
  const int64_t n = static_cast<int64_t>(rows.size());
  Tensor indices = Tensor::empty({n}, DType::i32);
  std::copy(rows.begin(), rows.end(), indices.data<int32_t>());
  const Tensor y = ops::rms_norm(ops::embedding(x, indices), norm_->value, norm_eps_).y;
  Tensor logits = Tensor::empty({n, weight_->shape[0]}, DType::f32, x.device());
  ops::matmul(y, ops::transposed(weight_->value), logits);
  return logits;
}

}  // namespace weft::nn
