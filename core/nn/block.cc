#include "core/nn/block.h"

#include "core/ops/rms_norm.h"

namespace weft::nn {
namespace {

Tensor norm_backward(const Tensor& dy, const ParameterPtr& weight, const Tensor& dresidual,
                     Tape& tape) {
  const Tensor rstd = tape.pop(), x = tape.pop();
  return ops::rms_norm_backward({.dy_TD = dy,
                                 .x_TD = x,
                                 .weight_D = weight->value,
                                 .rstd_T = rstd,
                                 .dresidual_TD = dresidual,
                                 .dweight_D = weight->wants_grad() ? weight->grad : Tensor()});
}

}  // namespace

Block::Block(ParameterPtr input_norm, Attention attention, ParameterPtr post_attention_norm,
             Mlp mlp, float norm_eps)
    : input_norm_(std::move(input_norm)),
      attention_(std::move(attention)),
      post_attention_norm_(std::move(post_attention_norm)),
      mlp_(std::move(mlp)),
      norm_eps_(norm_eps) {}

Tensor Block::forward(const Tensor& x, const Step& step, Tape& tape) const {
  const auto rebuild = [](const Tensor& in, const ParameterPtr& weight, const Tensor& rstd) {
    return Tape::Recipe{{in, rstd},
                        [weight](const std::vector<Tensor>& from) {
                          return ops::rms_norm_rebuild(from[0], weight->value, from[1]);
                        },
                        weight};
  };
  const ops::RmsNormResult first = ops::rms_norm(x, input_norm_->value, norm_eps_);
  tape.push(x);
  tape.push(first.rstd);
  Tensor sum;
  {
    Tape::Rebuildable cheap(tape, first.y, rebuild(x, input_norm_, first.rstd));
    sum = attention_.forward(first.y, step, tape, x);
  }
  const ops::RmsNormResult second = ops::rms_norm(sum, post_attention_norm_->value, norm_eps_);
  tape.push(sum);
  tape.push(second.rstd);
  Tape::Rebuildable cheap(tape, second.y, rebuild(sum, post_attention_norm_, second.rstd));
  return mlp_.forward(second.y, step, tape, sum);
}

Tensor Block::backward(const Tensor& dy, const Step& step, Tape& tape, bool wants_dx) const {
  const Tensor dsecond = mlp_.backward(dy, step, tape);
  const Tensor dsum = norm_backward(dsecond, post_attention_norm_, dy, tape);
  const bool wants_dfirst = wants_dx || input_norm_->wants_grad();
  const Tensor dfirst = attention_.backward(dsum, step, tape, wants_dfirst);
  if (wants_dfirst) return norm_backward(dfirst, input_norm_, dsum, tape);
  tape.pop();
  tape.pop();
  return {};
}

void Block::collect(std::vector<ParameterPtr>& parameters) const {
  parameters.push_back(input_norm_);
  attention_.collect(parameters);
  parameters.push_back(post_attention_norm_);
  mlp_.collect(parameters);
}

}  // namespace weft::nn
