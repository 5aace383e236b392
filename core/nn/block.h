// A pre-norm transformer block. Its input and output is one residual tensor [T,D].
#pragma once

#include "core/nn/attention.h"
#include "core/nn/mlp.h"

namespace weft::nn {

class Block {
 public:
  Block(ParameterPtr input_norm, Attention attention, ParameterPtr post_attention_norm, Mlp mlp,
        float norm_eps);

  Tensor forward(const Tensor& x_TD, const Step& step, Tape& tape) const;
  // wants_dx = false: dx, which nobody wants, is undefined.
  Tensor backward(const Tensor& dy_TD, const Step& step, Tape& tape, bool wants_dx = true) const;

  Attention& attention() { return attention_; }
  Mlp& mlp() { return mlp_; }
  void collect(std::vector<ParameterPtr>& parameters) const;

 private:
  ParameterPtr input_norm_;
  Attention attention_;
  ParameterPtr post_attention_norm_;
  Mlp mlp_;
  float norm_eps_;
};

}  // namespace weft::nn
