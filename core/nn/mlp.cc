#include "core/nn/mlp.h"

#include "core/ops/swiglu.h"

namespace weft::nn {

Tensor Mlp::forward(const Tensor& x, const Step& step, Tape& tape, const Tensor& residual) const {
  const Tensor gate_up = gate_up_.forward(x, step, tape);
  tape.push(gate_up);
  const Tensor act = ops::swiglu(gate_up);
  const auto again = [](const std::vector<Tensor>& from) { return ops::swiglu(from[0]); };
  Tape::Rebuildable cheap(tape, act, {{gate_up}, again});
  return down_.forward(act, step, tape, residual);
}

Tensor Mlp::backward(const Tensor& dy, const Step& step, Tape& tape) const {
  const Tensor dact = down_.backward(dy, step, tape);
  const Tensor dgate_up = ops::swiglu_backward(dact, tape.pop());  // in place
  return gate_up_.backward(dgate_up, step, tape);
}

void Mlp::collect(std::vector<ParameterPtr>& parameters) const {
  gate_up_.collect(parameters);
  down_.collect(parameters);
}

}  // namespace weft::nn
