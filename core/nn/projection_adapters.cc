// The adapters of a projection: their thin products, and what DoRA scales.
#include <algorithm>

#include "core/base/rng.h"
#include "core/nn/projection.h"
#include "core/nn/stacked.h"
#include "core/ops/adapter_input_gradient.h"
#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"

namespace weft::nn {
namespace {

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

bool Projection::has_dora() const {
  return std::any_of(members_.begin(), members_.end(),
                     [](const auto& m) { return m.adapter && m.adapter->magnitude; });
}

bool Projection::is_adapted() const {
  return std::any_of(members_.begin(), members_.end(),
                     [](const auto& m) { return m.adapter.has_value(); });
}

std::vector<Tensor> Projection::adapters_as() const {
  std::vector<Tensor> as;
  for (const auto& m : members_)
    if (m.adapter) as.push_back(m.adapter->a->value);
  return as;
}
std::vector<Tensor> Projection::adapters_a_grads() const {
  std::vector<Tensor> grads;
  for (const auto& m : members_)
    if (m.adapter) grads.push_back(m.adapter->a->grad);
  return grads;
}
Tensor Projection::adapters_a() const {
  return stacked(adapters_as());
}
Tensor Projection::adapters_a_grad() const {
  return stacked(adapters_a_grads());
}

bool Projection::lends_input(const Step& step) const {
  return is_adapted() && !trains_weights() && !drops(step) && adapters_a().defined() &&
         (step.mode != Mode::train || adapters_a_grad().defined());
}

bool Projection::lends_output() const {
  return is_adapted() && !has_dora();
}

// The first adapter's scale: all of them have it, unless a PEFT adapter's patterns say otherwise.
float Projection::hidden_scale() const {
  for (const auto& m : members_)
    if (m.adapter) return m.adapter->scale;
  return 1;
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

// h[T, sum of R] = scale * x A^T; undefined without adapters. It carries the adapters' common
// scale, so that what follows has no factor.
Tensor Projection::adapters_hidden(const Tensor& x, const Step& step) const {
  if (!is_adapted()) return {};
  const std::vector<Tensor> as = adapters_as();
  int64_t ranks = 0;
  for (const Tensor& a : as) ranks += a.dim(0);
  const Tensor x_dropped = adapter_input(x, step);
  Tensor h_TR = Tensor::empty({x.dim(0), ranks}, x.dtype(), x.device());
  for_each_product(as, [&](int64_t column, const Tensor& a) {
    ops::matmul(x_dropped, ops::transposed(a), ops::columns(h_TR, column, column + a.dim(0)),
                {.alpha = hidden_scale()});
  });
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
                         .alpha = m.adapter->scale / hidden_scale()});
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

// Of members that have a magnitude, in reverse.
void Projection::pop_unscaled(Tape& tape, std::vector<Tensor>& unscaled) const {
  for (const auto& m : members_)
    if (m.adapter && m.adapter->magnitude)
      for (int i = 0; i < 2; ++i) unscaled.push_back(tape.pop());
}

// Undoes DoRA's scaling with what add_scaled_adapters pushed: accumulates dmagnitude, returns dy
// times magnitude / norm in the columns of members that have one.
Tensor Projection::dora_backward(const Tensor& dy, const std::vector<Tensor>& unscaled) const {
  Tensor scaled = dy;
  int64_t end = out_features();
  auto next = unscaled.begin();
  for (auto m = members_.rbegin(); m != members_.rend(); ++m) {
    const int64_t begin = end - m->out_features();
    if (m->adapter && m->adapter->magnitude) {
      if (scaled.raw() == dy.raw()) scaled = dy.clone();
      const Tensor& norms = *next++;
      const Tensor& before = *next++;
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

std::vector<ops::AdapterSegment> Projection::adapter_segments() const {
  std::vector<ops::AdapterSegment> segments;
  int64_t column = 0, r = 0;
  for (const auto& m : members_) {
    if (m.adapter) {
      const Adapter& adapter = *m.adapter;
      segments.push_back({.column = column,
                          .rank = r,
                          .b_NR = adapter.b->value,
                          .db_NR = adapter.b->grad,
                          .dh_scale = adapter.scale,
                          .db_scale = adapter.scale / hidden_scale()});
      r += adapter.a->shape[0];
    }
    column += m.out_features();
  }
  return segments;
}

// Of x, or of what the tape says that x is the norm of.
void Projection::adapters_a_backward(const ProjectionBackward& state, const Step& step) const {
  const Tape::Recipe& origin = state.x.recipe;
  const bool is_norm = origin.norm && !drops(step);
  const Tensor x = is_norm ? Tensor() : adapter_input(state.x.tensor(), step);
  const ops::NormedInput normed =
      is_norm ? ops::NormedInput{origin.from[0], origin.norm->value, origin.from[1]}
              : ops::NormedInput();
  for_each_product(adapters_a_grads(), [&](int64_t begin, const Tensor& da) {
    step.weight_grads->push([dh = state.dh_TR, x, normed, begin, da] {
      ops::adapter_input_gradient({.dh_TR = ops::columns(dh, begin, begin + da.dim(0)),
                                   .x_TK = x,
                                   .normed = normed,
                                   .da_RK = da});
    });
  });
}

// dh A, in a product or one for each adapter; nothing without dh.
std::vector<ops::ThinProduct> Projection::adapters_part_of_dx(const Tensor& dh_TR) const {
  std::vector<ops::ThinProduct> parts;
  if (!dh_TR.defined()) return parts;
  for_each_product(adapters_as(), [&](int64_t r, const Tensor& a) {
    parts.push_back({.a = ops::columns(dh_TR, r, r + a.dim(0)), .b = a});
  });
  return parts;
}

}  // namespace weft::nn
