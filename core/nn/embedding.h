// Token embedding: where ids become the residual.
#pragma once

#include "core/nn/parameter.h"
#include "core/nn/step.h"
#include "core/ops/embedding.h"

namespace weft::nn {

class Embedding {
 public:
  explicit Embedding(ParameterPtr weight) : weight_(std::move(weight)) {}

  Tensor forward(const Step& step) const { return ops::embedding(weight_->value, step.ids); }
  // REQUIRES: wants_grad()
  void backward(const Tensor& dy_TD, const Step& step) const {
    ops::embedding_backward(dy_TD, step.ids, weight_->grad);
  }
  bool wants_grad() const { return weight_->wants_grad(); }
  const ParameterPtr& weight() const { return weight_; }

 private:
  ParameterPtr weight_;  // [V, D]
};

}  // namespace weft::nn
