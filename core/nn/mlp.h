// The gated feed-forward part of a block: down(silu(gate(x)) * up(x)).
#pragma once

#include "core/nn/projection.h"

namespace weft::nn {

class Mlp {
 public:
  Mlp(Projection gate_up, Projection down) : gate_up_(std::move(gate_up)), down_(std::move(down)) {}

  // The output plus residual[T,D].
  Tensor forward(const Tensor& x_TD, const Step& step, Tape& tape, const Tensor& residual_TD) const;
  Tensor backward(const Tensor& dy_TD, const Step& step, Tape& tape) const;

  Projection& gate_up() { return gate_up_; }
  Projection& down() { return down_; }
  void collect(std::vector<ParameterPtr>& parameters) const;

 private:
  // Whether SwiGLU adds the part of gate's and up's adapters to so many tokens.
  bool swiglu_adds_front(int64_t tokens, const Step& step) const;

  Projection gate_up_;
  Projection down_;
};

}  // namespace weft::nn
