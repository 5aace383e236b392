#include "core/nn/projection.h"

#include <algorithm>
#include <utility>

#include "core/base/rng.h"
#include "core/ops/adapter_gradients.h"
#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"

namespace weft::nn {
namespace {

using ops::Matrix;

// The members' matrices as one, where they lie next to each other in memory with the same dtype:
// the unit's flat buffer sees to that for the members of a projection. Otherwise an undefined
// tensor.
Tensor stacked(const std::vector<Tensor>& parts) {
  int64_t rows = 0;
  const char* expected = static_cast<const char*>(parts[0].raw());
  for (const Tensor& part : parts) {
    if (part.raw() != expected || part.dtype() != parts[0].dtype() || !part.same_storage(parts[0]))
      return {};
    expected += part.bytes();
    rows += part.dim(0);
  }
  Shape shape = parts[0].shape();
  shape[0] = rows;
  return Tensor::wrap(parts[0].raw(), shape, parts[0].dtype(), parts[0].storage(),
                      parts[0].device());
}

// Calls body(first column, rows of W or A as one matrix) for each maximal product.
template <class Body>
void for_each_product(const std::vector<Tensor>& parts, Body body) {
  if (const Tensor all = stacked(parts); all.defined()) return body(0, all);
  int64_t column = 0;
  for (const Tensor& part : parts) {
    body(column, part);
    column += part.dim(0);
  }
}

Tensor column_copy(const Tensor& x_TN, int64_t begin, int64_t end) {
  Tensor part = Tensor::empty({x_TN.dim(0), end - begin}, x_TN.dtype(), x_TN.device());
  ops::copy(ops::columns(x_TN, begin, end), part);
  return part;
}

}  // namespace

Tensor adapted_row_norms(const ProjectionMember& member) {
  const Adapter& adapter = *member.adapter;
  const int64_t rows = member.weight->shape[0], cols = member.weight->shape[1];
  constexpr int64_t kRowsAtOnce = 1024;
  const Device device = member.weight->value.device();
  Tensor norms = Tensor::empty({rows}, DType::f32, device);
  for (int64_t begin = 0; begin < rows; begin += kRowsAtOnce) {
    const int64_t end = std::min(rows, begin + kRowsAtOnce);
    Tensor sum = Tensor::empty({end - begin, cols}, DType::f32, device, MemoryTag::workspace);
    ops::matmul(adapter.b->value.rows(begin, end), adapter.a->value, sum, {.alpha = adapter.scale});
    ops::axpy(1, member.weight->value.rows(begin, end), sum);
    norms.rows(begin, end).copy_from(ops::row_norms(sum));
  }
  return norms;
}

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

bool Projection::saves_input() const {
  for (const auto& m : members_)
    if (m.adapter || m.weight->trainable) return true;
  return false;
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
                           const Tensor& residual) const {
  CHECK(!residual.defined() || members_.size() == 1, "a residual of {} members", members_.size());
  if (saves_input()) tape.push(x);
  Tensor y = Tensor::empty({x.dim(0), out_features()}, x.dtype(), x.device());
  const Tensor h_TR = adapters_hidden(x, step, tape);
  const bool scales = has_dora();  // y is not whole until it is scaled
  std::vector<Tensor> weights;
  for (const auto& m : members_) weights.push_back(m.weight->value);
  const Tensor bias = scales || !stacked(weights).defined() ? Tensor() : stacked_biases();
  const ops::Matrix addend = residual.defined() && !scales ? ops::Matrix(residual) : ops::Matrix();
  for_each_product(weights, [&](int64_t column, const Tensor& w) {
    const int64_t next = column + w.dim(0);
    ops::matmul(
        x, ops::transposed(w), ops::columns(y, column, next),
        {.addend = addend.data ? &addend : nullptr,
         .bias_N = bias.defined() ? &bias : nullptr,
         .thin = scales ? std::vector<ops::ThinProduct>() : adapters_part(h_TR, column, next)});
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

bool Projection::has_dora() const {
  return std::any_of(members_.begin(), members_.end(),
                     [](const auto& m) { return m.adapter && m.adapter->magnitude; });
}

bool Projection::is_adapted() const {
  return std::any_of(members_.begin(), members_.end(),
                     [](const auto& m) { return m.adapter.has_value(); });
}

// The mask of the adapters' path, on x or on its gradient.
ops::DropoutArgs Projection::dropout_of(const Tensor& x, const Step& step) const {
  return {.x_TD = x,
          .sample_ids_T = step.sample_ids,
          .positions_T = step.positions,
          .seed = step.seed,
          .step = step.number,
          .site = hash_name(members_[0].name),
          .p = static_cast<float>(dropout)};
}

Tensor Projection::adapter_input(const Tensor& x, const Step& step) const {
  return drops(step) ? ops::dropout(dropout_of(x, step)) : x;
}

// h[T, sum of R] = scale * x A^T, pushed; undefined without adapters. It carries the adapters'
// common scale, so that what follows has no factor.
Tensor Projection::adapters_hidden(const Tensor& x, const Step& step, Tape& tape) const {
  if (!is_adapted()) return {};
  std::vector<Tensor> as;
  int64_t ranks = 0;
  for (const auto& m : members_)
    if (m.adapter) as.push_back(m.adapter->a->value), ranks += m.adapter->a->shape[0];
  const Tensor x_dropped = adapter_input(x, step);
  Tensor h_TR = Tensor::empty({x.dim(0), ranks}, x.dtype(), x.device());
  for_each_product(as, [&](int64_t column, const Tensor& a) {
    ops::matmul(x_dropped, ops::transposed(a), ops::columns(h_TR, column, column + a.dim(0)),
                {.alpha = common_scale()});
  });
  tape.push(h_TR);
  return h_TR;
}

// h B^T of the members in columns [begin, end) of y, which hold whole members.
std::vector<ops::ThinProduct> Projection::adapters_part(const Tensor& h_TR, int64_t begin,
                                                        int64_t end) const {
  std::vector<ops::ThinProduct> parts;
  int64_t column = 0, r = 0;
  for (const auto& m : members_) {
    if (m.adapter) {
      const int64_t r_next = r + m.adapter->a->shape[0];
      if (column >= begin && column < end)
        parts.push_back({.a = ops::columns(h_TR, r, r_next),
                         .b = ops::transposed(m.adapter->b->value),
                         .column = column - begin,
                         .alpha = m.adapter->scale / common_scale()});
      r = r_next;
    }
    column += m.out_features();
  }
  return parts;
}

// y += the adapters' part; then the columns of members with a magnitude are scaled (DoRA).
void Projection::add_scaled_adapters(const Tensor& h_TR, const Tensor& y, Tape& tape) const {
  for (const ops::ThinProduct& part : adapters_part(h_TR, 0, out_features()))
    ops::matmul(part.a, part.b, ops::columns(y, part.column, part.column + part.b.cols),
                {.alpha = part.alpha, .accumulate = true});
  int64_t column = 0;
  for (const auto& m : members_) {
    const int64_t next = column + m.out_features();
    if (m.adapter && m.adapter->magnitude) {
      const Tensor norms = adapted_row_norms(m);
      if (tape.records()) {
        tape.push(column_copy(y, column, next));
        tape.push(norms);
      }
      ops::scale_columns(ops::columns(y, column, next),
                         ops::divide(m.adapter->magnitude->value, norms));
    }
    column = next;
  }
}

Tensor Projection::backward(const Tensor& dy_in, const Step& step, Tape& tape,
                            bool wants_dx) const {
  bias_backward(dy_in, step);
  const Tensor dy = dora_backward(dy_in, tape);
  const bool adapted = is_adapted(), dropped = adapted && drops(step);
  const Tensor h_TR = adapted ? tape.pop() : Tensor();
  const Tensor x = saves_input() ? tape.pop() : Tensor();

  weights_backward(dy, x, step);
  std::vector<ops::ThinProduct> adapters;
  Tensor dh_TR;
  if (adapted) {
    dh_TR = adapters_backward(dy, x, h_TR, step);
    adapters = adapters_part_of_dx(dh_TR);
  }
  if (!wants_dx) return {};
  Tensor dx = Tensor::empty({dy.dim(0), in_features_}, dy.dtype(), dy.device());
  bool first = true;
  std::vector<Tensor> weights;
  for (const auto& m : members_) weights.push_back(m.weight->value);
  for_each_product(weights, [&](int64_t column, const Tensor& w) {
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

// dh A, in a product or one for each adapter.
std::vector<ops::ThinProduct> Projection::adapters_part_of_dx(const Tensor& dh_TR) const {
  std::vector<Tensor> as;
  for (const auto& m : members_)
    if (m.adapter) as.push_back(m.adapter->a->value);
  std::vector<ops::ThinProduct> parts;
  for_each_product(as, [&](int64_t r, const Tensor& a) {
    parts.push_back({.a = ops::columns(dh_TR, r, r + a.dim(0)), .b = a});
  });
  return parts;
}

// The first adapter's scale: all of them have it, unless a PEFT adapter's patterns say otherwise.
float Projection::common_scale() const {
  for (const auto& m : members_)
    if (m.adapter) return m.adapter->scale;
  return 1;
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

// Undoes DoRA's scaling: pops what add_adapters pushed, accumulates dmagnitude, returns dy times
// magnitude / norm in the columns of members that have one.
Tensor Projection::dora_backward(const Tensor& dy, Tape& tape) const {
  Tensor scaled = dy;
  int64_t end = out_features();
  for (auto m = members_.rbegin(); m != members_.rend(); ++m) {
    const int64_t begin = end - m->out_features();
    if (m->adapter && m->adapter->magnitude) {
      if (scaled.raw() == dy.raw()) scaled = dy.clone();
      const Tensor norms = tape.pop();
      const Tensor before = tape.pop();
      const ParameterPtr& magnitude = m->adapter->magnitude;
      if (magnitude->wants_grad()) {
        Tensor dot = Tensor::zeros({m->out_features()}, DType::f32, dy.device());
        ops::column_dot(ops::columns(dy, begin, end), before, dot);
        ops::axpy(1, ops::divide(dot, norms), magnitude->grad);
      }
      ops::scale_columns(ops::columns(scaled, begin, end), ops::divide(magnitude->value, norms));
    }
    end = begin;
  }
  return scaled;
}

// Returns dh[T, sum of R] and accumulates the gradients of the As and Bs. Those of the Bs come with
// dh, in the same pass over dy, so they never wait in step.weight_grads: they are thin, and dh is
// needed now. (In the queue's order of today, at once, that is when they would come anyway.)
Tensor Projection::adapters_backward(const Tensor& dy, const Tensor& x, const Tensor& h_TR,
                                     const Step& step) const {
  std::vector<ops::AdapterSegment> segments;
  std::vector<Tensor> das;
  int64_t column = 0, r = 0;
  for (const auto& m : members_) {
    if (m.adapter) {
      const Adapter& adapter = *m.adapter;
      segments.push_back({.column = column,
                          .rank = r,
                          .b_NR = adapter.b->value,
                          .db_NR = adapter.b->grad,
                          .dh_scale = adapter.scale,
                          .db_scale = adapter.scale / common_scale()});
      das.push_back(adapter.a->grad);
      r += adapter.a->shape[0];
    }
    column += m.out_features();
  }
  const Tensor dh_TR = ops::adapter_gradients(dy, h_TR, segments);
  const Tensor x_dropped = adapter_input(x, step);
  for_each_product(das, [&](int64_t begin, const Tensor& da) {
    step.weight_grads->push([dh_TR, x_dropped, begin, da] {
      ops::matmul(ops::columns(dh_TR, begin, begin + da.dim(0)).transposed(), x_dropped, da,
                  {.accumulate = true});
    });
  });
  return dh_TR;
}

}  // namespace weft::nn
