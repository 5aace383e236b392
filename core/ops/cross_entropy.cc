#include "core/ops/cross_entropy.h"

namespace weft::ops {
namespace {

void check(const Tensor& logits, const Tensor& labels) {
  CHECK(logits.rank() == 2 && labels.rank() == 1 && labels.dim(0) == logits.dim(0) &&
            labels.device() == logits.device(),
        "[cross_entropy] logits {}, labels {}", logits.shape().to_string(),
        labels.shape().to_string());
  CHECK(is_compute_type(logits.dtype(), logits.device()) && labels.dtype() == DType::i32,
        "[cross_entropy] logits {}, labels {}", name_of(logits.dtype()), name_of(labels.dtype()));
}

bool is_column(const Tensor& t, const Tensor& labels, DType dtype) {
  return t.rank() == 1 && t.dim(0) == labels.dim(0) && t.dtype() == dtype &&
         t.device() == labels.device();
}

}  // namespace

LogitsStats logits_stats(const Tensor& logits, const Tensor& labels, int64_t vocab_begin) {
  check(logits, labels);
  const auto column = [&](DType dtype) {
    return Tensor::empty({logits.dim(0)}, dtype, logits.device());
  };
  const LogitsStats stats{column(DType::f32), column(DType::f32), column(DType::f32),
                          column(DType::i32)};
  if (logits.device().is_cpu())
    cpu::logits_stats(logits, labels, vocab_begin, stats);
  else
    cuda::logits_stats(logits, labels, vocab_begin, stats);
  return stats;
}

TokenLoss token_loss(const LogitsStats& stats, const Tensor& labels) {
  CHECK(is_column(stats.max, labels, DType::f32) && is_column(stats.sum_exp, labels, DType::f32) &&
            is_column(stats.label_logit, labels, DType::f32) && labels.dtype() == DType::i32,
        "[token_loss] labels {}, stats {}", labels.shape().to_string(),
        stats.max.shape().to_string());
  const TokenLoss result{Tensor::empty(labels.shape(), DType::f32, labels.device()),
                         Tensor::empty(labels.shape(), DType::f32, labels.device())};
  if (labels.device().is_cpu())
    cpu::token_loss(stats, labels, result);
  else
    cuda::token_loss(stats, labels, result);
  return result;
}

void dlogits_in_place(const Tensor& logits, const Tensor& labels, const Tensor& lse,
                      const Tensor& scale, int64_t vocab_begin) {
  check(logits, labels);
  CHECK(scale.numel() == 1 && scale.dtype() == DType::f32, "[dlogits] scale {}",
        scale.shape().to_string());
  CHECK(is_column(lse, labels, DType::f32), "[dlogits] lse {}", lse.shape().to_string());
  if (logits.device().is_cpu())
    return cpu::dlogits_in_place(logits, labels, lse, scale, vocab_begin);
  cuda::dlogits_in_place(logits, labels, lse, scale, vocab_begin);
}

}  // namespace weft::ops
