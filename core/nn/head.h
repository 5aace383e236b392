// Final norm, language-model head and cross-entropy. Owns the loop over token chunks: whole logits
// never exist, and only tokens that have a label are multiplied with the vocabulary.
#pragma once

#include "core/nn/parameter.h"
#include "core/nn/step.h"

namespace weft::nn {

// Sums over the scored tokens of a micro-batch.
struct HeadLoss {
  double sum = 0;       // of -log p(label), in f64, in token order
  int64_t tokens = 0;   // scored
  int64_t correct = 0;  // whose greedy token is the label
};

// A scored token of an evaluation.
struct ScoredToken {
  float loss = 0;
  bool correct = false;  // the greedy token is the label
};

class Head {
 public:
  // weight [V, D]: the embedding's own parameter when the head is tied.
  Head(ParameterPtr norm, ParameterPtr weight, float norm_eps)
      : norm_(std::move(norm)), weight_(std::move(weight)), norm_eps_(norm_eps) {}

  // Loss and, in one pass over the chunks, dx[T,D] of loss * step.loss_scale; weight gradients +=.
  HeadLoss train(const Tensor& x_TD, const Step& step, Tensor& dx_TD) const;
  // Loss alone. Appends every scored token, in order, to `scored` (may be null).
  HeadLoss evaluate(const Tensor& x_TD, const Step& step,
                    std::vector<ScoredToken>* scored = nullptr) const;
  // logits[N,V] in f32 of every row of x; or of the rows named by `rows`.
  Tensor logits(const Tensor& x_ND) const;
  Tensor logits(const Tensor& x_TD, const std::vector<int32_t>& rows) const;

  const ParameterPtr& weight() const { return weight_; }
  const ParameterPtr& norm() const { return norm_; }

 private:
  struct Scored;  // the rows of x that have a label
  Scored gather(const Tensor& x, const Step& step) const;

  ParameterPtr norm_;  // [D]
  ParameterPtr weight_;
  float norm_eps_;
};

}  // namespace weft::nn
