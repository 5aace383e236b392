// Final norm, language-model head and cross-entropy. Owns the loop over token chunks: whole logits
// never exist, and only tokens that have a label are multiplied with the vocabulary.
#pragma once

#include "core/nn/parameter.h"
#include "core/nn/step.h"

namespace weft::nn {

// Sums over the scored tokens of an evaluation's batch.
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

  // Fills step.scored_rows and scored_labels from its labels, for the model's device.
  static void prepare(Step& step, Device device);

  // step.loss_sum and, in one pass over the chunks, dx[T,D] of it times step.loss_scale (returned);
  // weight gradients +=.
  Tensor train(const Tensor& x_TD, const Step& step) const;
  // Loss alone. Appends every scored token, in order, to `scored` (may be null).
  HeadLoss evaluate(const Tensor& x_TD, const Step& step,
                    std::vector<ScoredToken>* scored = nullptr) const;
  // logits[N,V] in f32 of every row of x; or of the rows named by `rows`.
  Tensor logits(const Tensor& x_ND) const;
  Tensor logits(const Tensor& x_TD, const std::vector<int32_t>& rows) const;

  // How many of `rows` have their logits at once. `trains`: each chunk goes over the weight's whole
  // gradient.
  static int64_t rows_at_once(int64_t rows, int64_t vocab_size, DType dtype, Device device,
                              bool trains);

  const ParameterPtr& weight() const { return weight_; }
  const ParameterPtr& norm() const { return norm_; }

 private:
  ParameterPtr norm_;  // [D]
  ParameterPtr weight_;
  float norm_eps_;
};

}  // namespace weft::nn
