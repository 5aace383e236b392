// Grouped-query causal attention with rotary positions; per-head norms of q and k where the family
// has them.
#pragma once

#include "core/nn/projection.h"
#include "core/ops/qk_norm_rope.h"

namespace weft::nn {

struct AttentionConfig {
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  float norm_eps = 0;   // of q and k norms
  int layer_index = 0;  // which of the cache's tensors are this layer's
};

class Attention {
 public:
  // q_norm and k_norm ([head_dim] each) may be null.
  Attention(const AttentionConfig& config, Projection qkv, Projection o, ParameterPtr q_norm,
            ParameterPtr k_norm);

  // The output plus residual[T,D].
  Tensor forward(const Tensor& x_TD, const Step& step, Tape& tape, const Tensor& residual_TD) const;
  Tensor backward(const Tensor& dy_TD, const Step& step, Tape& tape, bool wants_dx = true) const;

  Projection& qkv() { return qkv_; }
  Projection& o() { return o_; }
  void collect(std::vector<ParameterPtr>& parameters) const;

 private:
  int64_t q_width() const { return config_.num_heads * config_.head_dim; }
  int64_t kv_width() const { return config_.num_kv_heads * config_.head_dim; }
  ops::QkNormRopeArgs norm_arguments(const Tensor& raw, const Step& step) const;
  Tensor turn_heads(const Tensor& raw, const Step& step, Tape& tape) const;
  void turn_heads_backward(const Tensor& dqkv, const Step& step, Tape& tape) const;
  ops::AttentionShape shape() const;
  ops::AttentionArgs arguments(const Tensor& qkv, const Tensor& o, const Step& step) const;
  Tensor attend_cached(const Tensor& raw, const Step& step, Tape& tape) const;

  AttentionConfig config_;
  Projection qkv_;
  Projection o_;
  ParameterPtr q_norm_;
  ParameterPtr k_norm_;
};

}  // namespace weft::nn
