#include "core/nn/mlp.h"

#include "core/ops/swiglu.h"
#include "core/ops/swiglu_adapters.h"

namespace weft::nn {

bool Mlp::swiglu_adds_front(int64_t tokens, const Step& step) const {
  return down_.lends_input(step) && gate_up_.lends_output() &&
         ops::swiglu_adds_front(tokens, down_.adapters_a(), gate_up_.adapter_segments());
}

Tensor Mlp::forward(const Tensor& x, const Step& step, Tape& tape, const Tensor& residual) const {
  const bool adds_front = swiglu_adds_front(x.dim(0), step);
  ops::SwigluFront front;
  if (adds_front) front.segments = gate_up_.adapter_segments();
  const Tensor gate_up =
      gate_up_.forward(x, step, tape, {.left_out_TR = adds_front ? &front.h_TR : nullptr});
  tape.push(gate_up);
  if (down_.lends_input(step)) {
    const auto [act, hidden] =
        ops::swiglu_hidden(gate_up, down_.adapters_a(), down_.hidden_scale(), front);
    return down_.forward(act, step, tape, {.residual_TN = residual, .hidden_TR = hidden});
  }
  const Tensor act = ops::swiglu(gate_up);
  const auto again = [](const std::vector<Tensor>& from) { return ops::swiglu(from[0]); };
  Tape::Rebuildable cheap(tape, act, {{gate_up}, again, nullptr});
  return down_.forward(act, step, tape, {.residual_TN = residual});
}

Tensor Mlp::backward(const Tensor& dy, const Step& step, Tape& tape) const {
  const bool has_behind = down_.lends_input(step), has_front = gate_up_.lends_output();
  ProjectionBackward behind = down_.begin_backward(tape, has_behind);
  const Tensor gate_up = tape.pop();  // becomes its gradient
  ProjectionBackward front = gate_up_.begin_backward(tape);
  {
    const Tensor dact = down_.backward(dy, step, behind), none;
    if (has_behind || has_front)
      front.dh_TR = ops::swiglu_adapters_backward(
          {.dy_TF = dact,
           .gate_up_T2F = gate_up,
           .dh_behind_TR = has_behind ? behind.dh_TR : none,
           .da_RF = has_behind ? down_.adapters_a_grad() : none,
           .h_TR = front.h_TR,
           .segments = has_front ? gate_up_.adapter_segments() : std::vector<ops::AdapterSegment>(),
           .adds_front = swiglu_adds_front(dy.dim(0), step)});
    else
      ops::swiglu_backward(dact, gate_up);
  }
  return gate_up_.backward(gate_up, step, front);
}

void Mlp::collect(std::vector<ParameterPtr>& parameters) const {
  gate_up_.collect(parameters);
  down_.collect(parameters);
}

}  // namespace weft::nn
