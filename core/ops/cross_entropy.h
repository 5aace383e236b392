// Cross-entropy of next-token logits, in three ops a token chunk so that whole logits never exist
// and a sharded vocabulary needs only a combine between the first and the last.
#pragma once

#include "core/tensor/tensor.h"

namespace weft::ops {

constexpr int32_t kIgnoredLabel = -100;

struct LogitsStats {
  Tensor max;          // [C] f32
  Tensor sum_exp;      // [C] f32, of exp(logit - max)
  Tensor label_logit;  // [C] f32; 0 where the label is ignored or lies in another shard
  Tensor argmax;       // [C] i32, the lowest vocabulary entry (vocab_begin counted) of the greatest
                       // logit; a NaN is never the greatest, but makes sum_exp NaN
};
// logits[C,V] f32 or bf16, labels[C] i32 (kIgnoredLabel: not scored), both for vocabulary entries
// vocab_begin .. vocab_begin + V - 1.
LogitsStats logits_stats(const Tensor& logits_CV, const Tensor& labels_C, int64_t vocab_begin = 0);

struct TokenLoss {
  Tensor loss;  // [C] f32: lse - label_logit; 0 where ignored
  Tensor lse;   // [C] f32
};
TokenLoss token_loss(const LogitsStats& stats, const Tensor& labels_C);

// logits = (softmax(logits) - onehot(label)) * scale, in place; zero rows where ignored. scale [1]
// f32, where the logits are.
void dlogits_in_place(const Tensor& logits_CV, const Tensor& labels_C, const Tensor& lse_C,
                      const Tensor& scale, int64_t vocab_begin = 0);

namespace cpu {
void logits_stats(const Tensor& logits, const Tensor& labels, int64_t vocab_begin,
                  const LogitsStats& stats);
void token_loss(const LogitsStats& stats, const Tensor& labels, const TokenLoss& result);
void dlogits_in_place(const Tensor& logits, const Tensor& labels, const Tensor& lse,
                      const Tensor& scale, int64_t vocab_begin);
}  // namespace cpu
namespace cuda {
void logits_stats(const Tensor& logits, const Tensor& labels, int64_t vocab_begin,
                  const LogitsStats& stats);
void token_loss(const LogitsStats& stats, const Tensor& labels, const TokenLoss& result);
void dlogits_in_place(const Tensor& logits, const Tensor& labels, const Tensor& lse,
                      const Tensor& scale, int64_t vocab_begin);
}  // namespace cuda

}  // namespace weft::ops
