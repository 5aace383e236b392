#include "core/nn/attention.h"

#include <cmath>

#include "core/ops/decode_attention.h"
#include "core/ops/elementwise.h"
#include "core/ops/kv_cache.h"
#include "core/ops/rms_norm.h"
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

// Normalises q and k into a fresh qkv and keeps what the backward needs.
Tensor Attention::norm_heads(const Tensor& raw, Tape& tape) const {
  Tensor qkv = raw.clone();
  const ops::HeadNorm q{0, config_.num_heads, config_.head_dim};
  const ops::HeadNorm k{config_.num_heads, config_.num_kv_heads, config_.head_dim};
  tape.push(raw);
  tape.push(ops::head_rms_norm(raw, qkv, q, q_norm_->value, config_.norm_eps));
  tape.push(ops::head_rms_norm(raw, qkv, k, k_norm_->value, config_.norm_eps));
  return qkv;
}

void Attention::norm_heads_backward(const Tensor& dqkv, Tape& tape) const {
  const Tensor k_rstd = tape.pop(), q_rstd = tape.pop(), raw = tape.pop();
  const ops::HeadNorm q{0, config_.num_heads, config_.head_dim};
  const ops::HeadNorm k{config_.num_heads, config_.num_kv_heads, config_.head_dim};
  const Tensor none;
  ops::head_rms_norm_backward(dqkv, raw, q, q_norm_->value, q_rstd,
                              q_norm_->wants_grad() ? q_norm_->grad : none);
  ops::head_rms_norm_backward(dqkv, raw, k, k_norm_->value, k_rstd,
                              k_norm_->wants_grad() ? k_norm_->grad : none);
}

// Keys and values go to the cache, and the queries see those of their sequence there.
Tensor Attention::attend_cached(const Tensor& qkv, const Step& step) const {
  const Tensor& keys = step.cache->keys[config_.layer_index];
  const Tensor& values = step.cache->values[config_.layer_index];
  ops::rope_store({.qkv = qkv,
                   .table = step.rope_table,
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
  if (q_norm_) qkv = norm_heads(qkv, tape);
  if (step.mode == Mode::generate)
    return o_.forward(attend_cached(qkv, step), step, tape, residual);
  ops::rope(
      {.x = qkv, .table = step.rope_table, .num_heads = config_.num_heads + config_.num_kv_heads});
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
  return o_.forward(o, step, tape, residual);
}

Tensor Attention::backward(const Tensor& dy, const Step& step, Tape& tape) const {
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
  ops::rope({.x = dqkv,
             .table = step.rope_table,
             .num_heads = config_.num_heads + config_.num_kv_heads,
             .inverse = true});
  if (q_norm_) norm_heads_backward(dqkv, tape);
  return qkv_.backward(dqkv, step, tape);
}

}  // namespace weft::nn
