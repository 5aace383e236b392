#include "core/nn/projection.h"

#include <algorithm>
#include <utility>

#include "core/nn/stacked.h"
#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"

namespace weft::nn {

Projection::Projection(int64_t in_features, std::vector<ProjectionMember> members)
    : in_features_(in_features), members_(std::move(members)) {
  for (const ProjectionMember& member : members_)
    CHECK(member.weight->shape[1] == in_features_ && !member.bias == !members_[0].bias, "{}",
          member.name);
}

int64_t Projection::out_features() const {
  int64_t sum = 0;
  for (const ProjectionMember& member : members_) sum += member.out_features();
  return sum;
}

void Projection::collect(std::vector<ParameterPtr>& parameters) const {
  for (const auto& m : members_) parameters.push_back(m.weight);
  for (const auto& m : members_)
    if (m.bias) parameters.push_back(m.bias);
  for (const auto& m : members_)
    if (m.adapter) parameters.push_back(m.adapter->a);
  for (const auto& m : members_)
    if (m.adapter) parameters.push_back(m.adapter->b);
  for (const auto& m : members_)
    if (m.adapter && m.adapter->magnitude) parameters.push_back(m.adapter->magnitude);
}

std::vector<Tensor> Projection::weights() const {
  std::vector<Tensor> weights;
  for (const auto& m : members_) weights.push_back(m.weight->value);
  return weights;
}

bool Projection::trains_weights() const {
  return std::any_of(members_.begin(), members_.end(),
                     [](const auto& m) { return m.weight->trainable; });
}

// Adapters whose input is not dropped can do with where it came from.
void Projection::keep_input(const Tensor& x, const Step& step, Tape& tape) const {
  if (trains_weights() || (is_adapted() && drops(step)))
    tape.push(x);
  else if (is_adapted())
    tape.push_origin(x);
}

// The biases as one vector where the members are one product; else undefined.
Tensor Projection::stacked_biases() const {
  std::vector<Tensor> biases;
  for (const auto& m : members_)
    if (m.bias) biases.push_back(m.bias->value);
  return biases.empty() ? Tensor() : stacked(biases);
}

// What is added to the products x W^T goes into them where it can: the residual, the bias, and the
// adapters' part, whose product is thin.
Tensor Projection::forward(const Tensor& x, const Step& step, Tape& tape,
                           const ProjectionExtras& extras) const {
  const Tensor &residual = extras.residual_TN, &hidden = extras.hidden_TR;
  CHECK(!residual.defined() || members_.size() == 1, "a residual of {} members", members_.size());
  if (!hidden.defined()) keep_input(x, step, tape);
  Tensor y = Tensor::empty({x.dim(0), out_features()}, x.dtype(), x.device());
  const Tensor h_TR = hidden.defined() ? hidden : adapters_hidden(x, step);
  if (h_TR.defined()) tape.push(h_TR);
  if (extras.left_out_TR) *extras.left_out_TR = h_TR;
  const bool scales = has_dora();  // y is not whole until it is scaled
  const bool adds_adapters = !scales && !extras.left_out_TR;
  const Tensor bias = scales || !stacked(weights()).defined() ? Tensor() : stacked_biases();
  const ops::Matrix addend = residual.defined() && !scales ? ops::Matrix(residual) : ops::Matrix();
  for_each_product(weights(), [&](int64_t column, const Tensor& w) {
    const int64_t next = column + w.dim(0);
    ops::matmul(x, ops::transposed(w), ops::columns(y, column, next),
                {.addend = addend.data ? &addend : nullptr,
                 .bias_N = bias.defined() ? &bias : nullptr,
                 .thin = adds_adapters ? adapters_part(h_TR, column, next)
                                       : std::vector<ops::ThinProduct>()});
  });
  if (scales) add_scaled_adapters(h_TR, y, tape);
  if (!bias.defined()) add_biases(y);
  if (scales && residual.defined()) ops::axpy(1, residual, y);
  return y;
}

void Projection::add_biases(const Tensor& y) const {
  int64_t column = 0;
  for (const auto& m : members_) {
    const int64_t next = column + m.out_features();
    if (m.bias) ops::add_bias(ops::columns(y, column, next), m.bias->value);
    column = next;
  }
}

ProjectionBackward Projection::begin_backward(Tape& tape, bool input_is_lent) const {
  ProjectionBackward state{.x = {}, .h_TR = {}, .unscaled = {}, .dh_TR = {}};
  state.input_is_lent = input_is_lent;
  pop_unscaled(tape, state.unscaled);
  if (is_adapted()) state.h_TR = tape.pop();
  if (!input_is_lent && (trains_weights() || is_adapted())) state.x = tape.pop_kept();
  return state;
}

Tensor Projection::backward(const Tensor& dy, const Step& step, Tape& tape, bool wants_dx) const {
  ProjectionBackward state = begin_backward(tape);
  state.wants_dx = wants_dx;
  return backward(dy, step, state);
}

Tensor Projection::backward(const Tensor& dy_in, const Step& step,
                            ProjectionBackward& state) const {
  bias_backward(dy_in, step);
  const Tensor dy = dora_backward(dy_in, state.unscaled);
  if (trains_weights()) {
    state.x = {state.x.tensor(), {}};
    weights_backward(dy, state.x.pushed, step);
  }
  if (is_adapted()) {
    if (!state.dh_TR.defined())
      state.dh_TR = ops::adapter_gradients(dy, state.h_TR, adapter_segments());
    if (!state.input_is_lent) adapters_a_backward(state, step);
  }
  return state.wants_dx ? input_backward(dy, step, state.dh_TR) : Tensor();
}

// dy W + dh A.
Tensor Projection::input_backward(const Tensor& dy, const Step& step, const Tensor& dh_TR) const {
  const Tensor dx = Tensor::empty({dy.dim(0), in_features_}, dy.dtype(), dy.device());
  const std::vector<ops::ThinProduct> adapters = adapters_part_of_dx(dh_TR);
  const bool dropped = !adapters.empty() && drops(step);
  bool first = true;
  for_each_product(weights(), [&](int64_t column, const Tensor& w) {
    ops::matmul(ops::columns(dy, column, column + w.dim(0)), w, dx,
                {.accumulate = !first,
                 .thin = first && !dropped ? adapters : std::vector<ops::ThinProduct>()});
    first = false;
  });
  if (dropped) {
    const Tensor dx_dropped = Tensor::empty(dx.shape(), dx.dtype(), dx.device());
    for (size_t i = 0; i < adapters.size(); ++i)
      ops::matmul(adapters[i].a, adapters[i].b, dx_dropped, {.accumulate = i > 0});
    ops::dropout_accumulate(dropout_of(dx_dropped, step), dx);
  }
  return dx;
}

void Projection::weights_backward(const Tensor& dy, const Tensor& x, const Step& step) const {
  std::vector<ParameterPtr> trained;
  std::vector<Tensor> grads;
  for (const auto& m : members_)
    if (m.weight->wants_grad()) trained.push_back(m.weight), grads.push_back(m.weight->grad);
  const bool assigns = take_stale(trained);
  auto product = [&](int64_t column, const Tensor& dw) {
    step.weight_grads->push([dy, x, column, dw, assigns] {
      ops::matmul(ops::columns(dy, column, column + dw.dim(0)).transposed(), x, dw,
                  {.accumulate = !assigns});
    });
  };
  if (grads.size() == members_.size()) return for_each_product(grads, product);
  int64_t column = 0;
  for (const auto& m : members_) {
    if (m.weight->wants_grad()) product(column, m.weight->grad);
    column += m.out_features();
  }
}

// The bias is added last, behind DoRA's scaling, so its gradient comes first.
void Projection::bias_backward(const Tensor& dy, const Step& step) const {
  int64_t column = 0;
  for (const auto& m : members_) {
    const int64_t next = column + m.out_features();
    if (m.bias && m.bias->wants_grad())
      step.weight_grads->push([dy, column, next, dbias = m.bias->grad] {
        ops::bias_backward(ops::columns(dy, column, next), dbias);
      });
    column = next;
  }
}

}  // namespace weft::nn
