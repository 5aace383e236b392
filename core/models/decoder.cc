#include "core/models/decoder.h"

#include <cmath>
#include <numbers>
#include <optional>

#include "core/ops/rope.h"
#include "core/telemetry/trace.h"

namespace weft::models {
namespace {

using nn::Init;
using nn::Parameter;
using nn::ParameterPtr;
using nn::Partition;
using nn::Projection;
using nn::ProjectionMember;

class Builder {
 public:
  Builder(const DecoderConfig& config, DType dtype) : c_(config), dtype_(dtype) {}

  ParameterPtr matrix(const std::string& name, int64_t rows, int64_t cols,
                      Partition partition) const {
    return std::make_shared<Parameter>(
        Parameter{.name = name + ".weight",
                  .shape = {rows, cols},
                  .dtype = dtype_,
                  .init = {Init::Kind::normal, static_cast<float>(c_.initializer_range)},
                  .partition = partition,
                  .grad_is_product = true});
  }
  ParameterPtr vector(const std::string& name, int64_t size, Init::Kind init,
                      Partition partition) const {
    return std::make_shared<Parameter>(Parameter{.name = name,
                                                 .shape = {size},
                                                 .dtype = dtype_,
                                                 .decay = false,
                                                 .init = {init, 0},
                                                 .partition = partition});
  }
  ParameterPtr norm(const std::string& name, int64_t size) const {
    return vector(name + ".weight", size, Init::Kind::ones, {});
  }

  nn::Block block(int index) const {
    const std::string prefix = "model.layers." + std::to_string(index);
    return nn::Block(norm(prefix + ".input_layernorm", c_.hidden_size),
                     attention(prefix + ".self_attn", index),
                     norm(prefix + ".post_attention_layernorm", c_.hidden_size),
                     mlp(prefix + ".mlp"), static_cast<float>(c_.rms_norm_eps));
  }

 private:
  // Column-parallel: the output features are cut. Row-parallel: the input features.
  ProjectionMember column(const std::string& name, int64_t in, int64_t out, bool bias,
                          int64_t granule) const {
    const Partition cut{.dim = 0, .granule = granule};
    return {.name = name,
            .weight = matrix(name, out, in, cut),
            .bias = bias ? vector(name + ".bias", out, Init::Kind::zeros, cut) : nullptr,
            .adapter = {}};
  }
  ProjectionMember row(const std::string& name, int64_t in, int64_t out, bool bias,
                       int64_t granule) const {
    return {.name = name,
            .weight = matrix(name, out, in, {.dim = 1, .granule = granule}),
            .bias = bias ? vector(name + ".bias", out, Init::Kind::zeros, {}) : nullptr,
            .adapter = {}};
  }

  nn::Attention attention(const std::string& prefix, int index) const {
    const int64_t q = c_.num_attention_heads * c_.head_dim;
    const int64_t kv = c_.num_key_value_heads * c_.head_dim;
    Projection qkv(c_.hidden_size,
                   {column(prefix + ".q_proj", c_.hidden_size, q, c_.qkv_bias, c_.head_dim),
                    column(prefix + ".k_proj", c_.hidden_size, kv, c_.qkv_bias, c_.head_dim),
                    column(prefix + ".v_proj", c_.hidden_size, kv, c_.qkv_bias, c_.head_dim)});
    Projection o(q, {row(prefix + ".o_proj", q, c_.hidden_size, c_.o_bias, c_.head_dim)});
    return nn::Attention({.num_heads = c_.num_attention_heads,
                          .num_kv_heads = c_.num_key_value_heads,
                          .head_dim = c_.head_dim,
                          .norm_eps = static_cast<float>(c_.rms_norm_eps),
                          .layer_index = index},
                         std::move(qkv), std::move(o),
                         c_.qk_norm ? norm(prefix + ".q_norm", c_.head_dim) : nullptr,
                         c_.qk_norm ? norm(prefix + ".k_norm", c_.head_dim) : nullptr);
  }

  nn::Mlp mlp(const std::string& prefix) const {
    const int64_t ffn = c_.intermediate_size;
    return nn::Mlp(
        Projection(c_.hidden_size,
                   {column(prefix + ".gate_proj", c_.hidden_size, ffn, c_.mlp_bias, 1),
                    column(prefix + ".up_proj", c_.hidden_size, ffn, c_.mlp_bias, 1)}),
        Projection(ffn, {row(prefix + ".down_proj", ffn, c_.hidden_size, c_.mlp_bias, 1)}));
  }

  const DecoderConfig& c_;
  DType dtype_;
};

}  // namespace

Tensor rope_inverse_frequencies(const DecoderConfig& c) {
  const int64_t half = c.head_dim / 2;
  Tensor result = Tensor::empty({half}, DType::f32, {}, MemoryTag::parameter);
  float* freq = result.data<float>();
  for (int64_t i = 0; i < half; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(c.head_dim);
    freq[i] = 1.0f / std::pow(static_cast<float>(c.rope_theta), exponent);
  }
  if (!c.rope_scaling) return result;
  const Llama3RopeScaling& s = *c.rope_scaling;
  const double old_context = static_cast<double>(s.original_max_position_embeddings);
  for (int64_t i = 0; i < half; ++i) {
    const float wavelength = 2 * std::numbers::pi_v<float> / freq[i];
    if (wavelength < old_context / s.high_freq_factor) continue;
    if (wavelength > old_context / s.low_freq_factor) {
      freq[i] = static_cast<float>(freq[i] / s.factor);
      continue;
    }
    const float smooth = static_cast<float>((old_context / wavelength - s.low_freq_factor) /
                                            (s.high_freq_factor - s.low_freq_factor));
    freq[i] = (1 - smooth) * freq[i] / static_cast<float>(s.factor) + smooth * freq[i];
  }
  return result;
}

Decoder::Decoder(const DecoderConfig& config, DType dtype)
    : config_(config), inv_freq_(rope_inverse_frequencies(config)) {
  const Builder build(config_, dtype);
  const Partition by_vocabulary{.dim = 0};
  const auto table =
      build.matrix("model.embed_tokens", config_.vocab_size, config_.hidden_size, by_vocabulary);
  table->grad_is_product = false;
  embedding_ = std::make_unique<nn::Embedding>(table);
  for (int i = 0; i < config_.num_hidden_layers; ++i) blocks_.push_back(build.block(i));
  head_ = std::make_unique<nn::Head>(
      build.norm("model.norm", config_.hidden_size),
      config_.tie_word_embeddings
          ? table
          : build.matrix("lm_head", config_.vocab_size, config_.hidden_size, by_vocabulary),
      static_cast<float>(config_.rms_norm_eps));
}

std::vector<nn::Unit> Decoder::units() const {
  std::vector<nn::Unit> units;
  units.push_back({"model.embed_tokens", {embedding_->weight()}});
  for (size_t i = 0; i < blocks_.size(); ++i) {
    units.push_back({"model.layers." + std::to_string(i), {}});
    blocks_[i].collect(units.back().parameters);
  }
  units.push_back({"lm_head", {head_->norm()}});
  if (!config_.tie_word_embeddings) units.back().parameters.push_back(head_->weight());
  return units;
}

std::vector<nn::ParameterPtr> Decoder::parameters() const {
  std::vector<nn::ParameterPtr> all;
  for (const nn::Unit& unit : units())
    all.insert(all.end(), unit.parameters.begin(), unit.parameters.end());
  return all;
}

std::vector<nn::Projection*> Decoder::projections() {
  std::vector<nn::Projection*> all;
  for (nn::Block& block : blocks_) {
    all.push_back(&block.attention().qkv());
    all.push_back(&block.attention().o());
    all.push_back(&block.mlp().gate_up());
    all.push_back(&block.mlp().down());
  }
  return all;
}

void Decoder::prepare(nn::Step& step) const {
  const Device device = step.positions.device();
  if (!(inv_freq_.device() == device)) inv_freq_ = inv_freq_.to(device, MemoryTag::parameter);
  step.rope_table = ops::rope_table(step.positions, inv_freq_);
  if (step.labels.defined()) nn::Head::prepare(step, device);
}

void Decoder::train(const nn::Step& step, const RecomputePlan& recompute, const UnitHooks& hooks,
                    bool last_micro_batch) const {
  using Keep = nn::Tape::Keep;
  CHECK(recompute.offloaded == 0 || recompute.blocks == blocks_.size(),
        "offload of {} of {} blocks", recompute.offloaded, recompute.blocks);
  const size_t head_unit = blocks_.size() + 1;
  const auto keep = [&](size_t layer) {
    return recompute.of(layer) == Recompute::none ? Keep::everything : Keep::expensive;
  };
  std::vector<nn::Tape> tapes;
  nn::Offload offload(host_space_, step.ids.device());
  std::optional<telemetry::Span> phase(std::in_place, "forward");
  hooks.gather(0);
  Tensor x = embedding_->forward(step);
  if (!config_.tie_word_embeddings) hooks.release(0);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const telemetry::Span span("layer", static_cast<int64_t>(i));
    const bool again = recompute.of(i) == Recompute::full;
    tapes.emplace_back(again ? Keep::nothing : keep(i));
    const Tensor input = x;
    hooks.gather(i + 1);
    x = blocks_[i].forward(input, step, tapes[i]);
    hooks.release(i + 1);
    if (again) {
      tapes[i] = nn::Tape(keep(i));
      tapes[i].push(input);
    }
    if (recompute.offloads(i)) offload.send(tapes[i], i);
  }
  offload.settle();
  phase.emplace("head");
  hooks.gather(head_unit);
  Tensor dx = head_->train(x, step);
  hooks.release(head_unit);
  if (last_micro_batch) hooks.reduce(head_unit);
  x = {};
  phase.emplace("backward");
  for (size_t i = blocks_.size(); i-- > 0;) {
    const telemetry::Span span("layer", static_cast<int64_t>(i));
    hooks.gather(i + 1);
    if (recompute.offloads(i)) offload.receive(tapes[i]);
    // One block comes back ahead, into memory that the last block has left where that is early
    // enough.
    if (i + 1 < blocks_.size() || (i > 0 && recompute.offloads(i - 1))) offload.fetch();
    if (recompute.of(i) == Recompute::full) {
      const telemetry::Span again("recompute");
      const Tensor input = tapes[i].pop();
      blocks_[i].forward(input, step, tapes[i]);
    }
    const bool wants_dx = i > 0 || embedding_->wants_grad();
    dx = blocks_[i].backward(dx, step, tapes[i], wants_dx);
    CHECK(tapes[i].empty(), "block {} left its tape", i);
    hooks.release(i + 1);
    if (last_micro_batch) hooks.reduce(i + 1);
  }
  if (embedding_->wants_grad()) embedding_->backward(dx, step);
  hooks.release(0);
  if (last_micro_batch) hooks.reduce(0);
}

Tensor Decoder::forward_without_tape(const nn::Step& step, const UnitHooks& hooks) const {
  nn::Tape tape(nn::Tape::Keep::nothing);
  hooks.gather(0);
  Tensor x = embedding_->forward(step);
  hooks.release(0);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    hooks.gather(i + 1);
    x = blocks_[i].forward(x, step, tape);
    hooks.release(i + 1);
  }
  return x;
}

nn::HeadLoss Decoder::evaluate(const nn::Step& step, const UnitHooks& hooks,
                               std::vector<nn::ScoredToken>* scored) const {
  const Tensor x = forward_without_tape(step, hooks);
  const size_t head_unit = blocks_.size() + 1;
  hooks.gather(head_unit);
  const nn::HeadLoss loss = head_->evaluate(x, step, scored);
  hooks.release(head_unit);
  return loss;
}

Tensor Decoder::logits(const nn::Step& step, const std::vector<int32_t>& rows,
                       const UnitHooks& hooks) const {
  const Tensor x = forward_without_tape(step, hooks);
  const size_t head_unit = blocks_.size() + 1;
  hooks.gather(head_unit);
  const Tensor logits = head_->logits(x, rows);
  hooks.release(head_unit);
  return logits;
}

Tensor Decoder::logits(const nn::Step& step, const UnitHooks& hooks) const {
  const Tensor x = forward_without_tape(step, hooks);
  const size_t head_unit = blocks_.size() + 1;
  hooks.gather(head_unit);
  const Tensor logits = head_->logits(x);
  hooks.release(head_unit);
  return logits;
}

}  // namespace weft::models
