#include "core/ops/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "core/base/threads.h"

namespace weft::ops::cpu {
namespace {

struct RowStats {
  float max;
  float sum_exp;
  int32_t argmax;
};

}  // namespace
}  // namespace weft::ops::cpu

#define WEFT_SIMD_FILE "kernels/cpu/cross_entropy_simd.h"
#include "kernels/cpu/for_each_isa.h"

namespace weft::ops::cpu {
namespace {

// The label's place in a row of `width` logits from vocab_begin on, or -1.
int64_t place_of(int32_t label, int64_t vocab_begin, int64_t width) {
  const int64_t at = label - vocab_begin;
  return label != kIgnoredLabel && at >= 0 && at < width ? at : -1;
}

template <class T>
void stats_of(const Tensor& logits, const Tensor& labels, int64_t vocab_begin,
              const LogitsStats& stats) {
  const auto kernel = SIMD_DISPATCH(logits_row<T>);
  const int64_t width = logits.dim(1);
  parallel_for(logits.dim(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      const T* row = logits.data<T>() + c * width;
      const RowStats of_row = kernel(row, width);
      const int64_t label = place_of(labels.data<int32_t>()[c], vocab_begin, width);
      stats.max.data<float>()[c] = of_row.max;
      stats.sum_exp.data<float>()[c] = of_row.sum_exp;
      stats.argmax.data<int32_t>()[c] = static_cast<int32_t>(vocab_begin + of_row.argmax);
      stats.label_logit.data<float>()[c] = label < 0 ? 0.0f : static_cast<float>(row[label]);
    }
  });
}

template <class T>
void dlogits_of(const Tensor& logits, const Tensor& labels, const Tensor& lse, float scale,
                int64_t vocab_begin) {
  const auto kernel = SIMD_DISPATCH(dlogits_row<T>);
  const int64_t width = logits.dim(1);
  parallel_for(logits.dim(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      T* row = logits.data<T>() + c * width;
      const int32_t label = labels.data<int32_t>()[c];
      if (label == kIgnoredLabel)
        std::fill_n(row, width, T(0.0f));
      else
        kernel(row, width, place_of(label, vocab_begin, width), lse.data<float>()[c], scale);
    }
  });
}

}  // namespace

void logits_stats(const Tensor& logits, const Tensor& labels, int64_t vocab_begin,
                  const LogitsStats& stats) {
  if (logits.dtype() == DType::f32) return stats_of<float>(logits, labels, vocab_begin, stats);
  stats_of<bf16>(logits, labels, vocab_begin, stats);
}

void token_loss(const LogitsStats& stats, const Tensor& labels, const TokenLoss& result) {
  for (int64_t c = 0; c < labels.dim(0); ++c) {
    const float lse = stats.max.data<float>()[c] + std::log(stats.sum_exp.data<float>()[c]);
    const bool scored = labels.data<int32_t>()[c] != kIgnoredLabel;
    result.lse.data<float>()[c] = lse;
    result.loss.data<float>()[c] = scored ? lse - stats.label_logit.data<float>()[c] : 0.0f;
  }
}

void dlogits_in_place(const Tensor& logits, const Tensor& labels, const Tensor& lse,
                      const Tensor& scale, int64_t vocab_begin) {
  const float factor = *scale.data<float>();
  if (logits.dtype() == DType::f32)
    return dlogits_of<float>(logits, labels, lse, factor, vocab_begin);
  dlogits_of<bf16>(logits, labels, lse, factor, vocab_begin);
}

}  // namespace weft::ops::cpu
