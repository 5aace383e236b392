#include "core/nn/attention.h"

#include <cmath>

#include "core/ops/decode_attention.h"
#include "core/ops/elementwise.h"
#include "core/ops/kv_cache.h"
#include "core/ops/rope.h"
#include "core/telemetry/trace.h"

namespace weft::nn {
namespace {

ops::HeadsView view(const Tensor& t, int64_t column) {
  return {static_cast<char*>(t.raw()) + static_cast<size_t>(column) * size_of(t.dtype()), t.dim(1)};
}

}  // namespace

Attention::Attention(const AttentionConfig& config, Projection qkv, Projection o,
                     ParameterPtr q_norm, ParameterPtr k_norm)
    : config_(config),
      qkv_(std::move(qkv)),
      o_(std::move(o)),
      q_norm_(std::move(q_norm)),
      k_norm_(std::move(k_norm)) {}

void Attention::collect(std::vector<ParameterPtr>& parameters) const {
  qkv_.collect(parameters);
  if (q_norm_) parameters.push_back(q_norm_);
  if (k_norm_) parameters.push_back(k_norm_);
  o_.collect(parameters);
}

ops::AttentionShape Attention::shape() const {
  return {.num_heads = config_.num_heads,
          .num_kv_heads = config_.num_kv_heads,
          .head_dim = config_.head_dim,
          .scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim))};
}

ops::AttentionArgs Attention::arguments(const Tensor& qkv, const Tensor& o,
                                        const Step& step) const {
  return {.q = view(qkv, 0),
          .k = view(qkv, q_width()),
          .v = view(qkv, q_width() + kv_width()),
          .o = view(o, 0),
          .lse = {},
          .shape = shape(),
          .documents = &step.documents,
          .dtype = qkv.dtype(),
          .device = qkv.device()};
}

ops::QkNormRopeArgs Attention::norm_arguments(const Tensor& raw, const Step& step) const {
  return {.qkv = raw,
          .table = step.rope_table,
          .q_weight = q_norm_->value,
          .k_weight = k_norm_->value,
          .num_heads = config_.num_heads,
          .num_kv_heads = config_.num_kv_heads,
          .eps = config_.norm_eps};
}

// q and k normalised (where there are norms) and turned; keeps what the backward needs.
Tensor Attention::turn_heads(const Tensor& raw, const Step& step, Tape& tape) const {
  if (!q_norm_) {
    ops::rope({.x = raw,
               .table = step.rope_table,
               .num_heads = config_.num_heads + config_.num_kv_heads});
    return raw;
  }
  const ops::QkNormRopeResult result = ops::qk_norm_rope(norm_arguments(raw, step));
  tape.push(raw);
  tape.push(result.rstd);
  return result.qkv;
}

// In place.
void Attention::turn_heads_backward(const Tensor& dqkv, const Step& step, Tape& tape) const {
  if (!q_norm_)
    return ops::rope({.x = dqkv,
                      .table = step.rope_table,
                      .num_heads = config_.num_heads + config_.num_kv_heads,
                      .inverse = true});
  const Tensor rstd = tape.pop(), raw = tape.pop(), none;
  ops::qk_norm_rope_backward({.dqkv = dqkv,
                              .forward = norm_arguments(raw, step),
                              .rstd = rstd,
                              .dq_weight = q_norm_->wants_grad() ? q_norm_->grad : none,
                              .dk_weight = k_norm_->wants_grad() ? k_norm_->grad : none});
}

// Keys and values go to the cache, and the queries see those of their sequence there.
Tensor Attention::attend_cached(const Tensor& raw, const Step& step, Tape& tape) const {
  const Tensor qkv = q_norm_ ? turn_heads(raw, step, tape) : raw, turned_already;
  const Tensor& keys = step.cache->keys[config_.layer_index];
  const Tensor& values = step.cache->values[config_.layer_index];
  ops::rope_store({.qkv = qkv,
                   .table = q_norm_ ? turned_already : step.rope_table,
                   .rows_T = step.cache_rows,
                   .keys = keys,
                   .values = values,
                   .num_heads = config_.num_heads,
                   .num_kv_heads = config_.num_kv_heads});
  const Tensor o = Tensor::empty({qkv.dim(0), q_width()}, qkv.dtype(), qkv.device());
  if (step.decode_first.defined()) {
    ops::decode_attention({.q = view(qkv, 0),
                           .k = view(keys, 0),
                           .v = view(values, 0),
                           .o = view(o, 0),
                           .first_B = step.decode_first,
                           .last_B = step.cache_rows,
                           .longest = step.decode_longest,
                           .shape = shape(),
                           .dtype = qkv.dtype(),
                           .device = qkv.device()});
    return o;
  }
  ops::AttentionArgs args = arguments(qkv, o, step);
  args.k = view(keys, 0);
  args.v = view(values, 0);
  ops::attention(args);
  return o;
}

Tensor Attention::forward(const Tensor& x, const Step& step, Tape& tape,
                          const Tensor& residual) const {
  Tensor qkv = qkv_.forward(x, step, tape);
  if (step.mode == Mode::generate)
    return o_.forward(attend_cached(qkv, step, tape), step, tape, {.residual_TN = residual});
  qkv = turn_heads(qkv, step, tape);
  Tensor o = Tensor::empty({x.dim(0), q_width()}, x.dtype(), x.device());
  ops::AttentionArgs args = arguments(qkv, o, step);
  if (tape.records())
    args.lse = Tensor::empty({x.dim(0), config_.num_heads}, DType::f32, x.device());
  {
    const telemetry::Span span("attention");
    ops::attention(args);
  }
  tape.push(qkv);
  tape.push(o);
  tape.push(args.lse);
  return o_.forward(o, step, tape, {.residual_TN = residual});
}

Tensor Attention::backward(const Tensor& dy, const Step& step, Tape& tape, bool wants_dx) const {
  const Tensor dout = o_.backward(dy, step, tape);
  const Tensor lse = tape.pop(), o = tape.pop(), qkv = tape.pop();
  const Tensor dqkv = Tensor::empty(qkv.shape(), qkv.dtype(), qkv.device());
  ops::AttentionBackwardArgs args{.forward = arguments(qkv, o, step),
                                  .dout = view(dout, 0),
                                  .dq = view(dqkv, 0),
                                  .dk = view(dqkv, q_width()),
                                  .dv = view(dqkv, q_width() + kv_width()),
                                  .deterministic = step.deterministic};
  args.forward.lse = lse;
  {
    const telemetry::Span span("attention");
    ops::attention_backward(args);
  }
  turn_heads_backward(dqkv, step, tape);
  return qkv_.backward(dqkv, step, tape, wants_dx);
}

}  // namespace weft::nn
