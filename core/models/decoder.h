// The decoder: embedding, blocks, head, built from a DecoderConfig as a blueprint that holds no
// memory.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/models/decoder_config.h"
#include "core/models/recompute.h"
#include "core/nn/block.h"
#include "core/nn/embedding.h"
#include "core/nn/head.h"
#include "core/nn/offload.h"

namespace weft::models {

// Called around each unit by the chunk runner; what they do is a policy (ZeRO stages, offload).
struct UnitHooks {
  std::function<void(size_t unit)> gather = [](size_t) {};
  std::function<void(size_t unit)> release = [](size_t) {};
  // After the unit's last weight gradient of the last micro-batch.
  std::function<void(size_t unit)> reduce = [](size_t) {};
};

class Decoder {
 public:
  // All parameters get `dtype` and train; passes change that.
  Decoder(const DecoderConfig& config, DType dtype);

  const DecoderConfig& config() const { return config_; }

  // Units in forward order: embedding, blocks, head. A tied head's weight belongs to the
  // embedding's unit. Built anew at each call, so that it sees what passes have added.
  std::vector<nn::Unit> units() const;
  std::vector<nn::ParameterPtr> parameters() const;
  // Every projection of the blocks, in order, for passes.
  std::vector<nn::Projection*> projections();

  // Fills what the layers share: the rotary table, and which rows are scored where the step has
  // labels. Call once for each Step.
  void prepare(nn::Step& step) const;

  // One micro-batch: forward, loss (step.loss_sum), backward. Gradients +=. `reduce` hooks run when
  // last is true. Does not wait for a GPU.
  void train(const nn::Step& step, const RecomputePlan& recompute, const UnitHooks& hooks,
             bool last_micro_batch) const;
  // What the activations of offloaded blocks take of the host's memory.
  size_t offload_bytes() const { return host_space_.bytes(); }
  // Loss only.
  nn::HeadLoss evaluate(const nn::Step& step, const UnitHooks& hooks,
                        std::vector<nn::ScoredToken>* scored = nullptr) const;
  // f32 logits of some tokens of the step, [rows.size(), V], or of all, [T, V] (Mode::generate or
  // evaluate). Of all: nothing of it passes through the host, so a DeviceGraph can record it.
  Tensor logits(const nn::Step& step, const std::vector<int32_t>& rows,
                const UnitHooks& hooks) const;
  Tensor logits(const nn::Step& step, const UnitHooks& hooks) const;

 private:
  Tensor forward_without_tape(const nn::Step& step, const UnitHooks& hooks) const;

  DecoderConfig config_;
  mutable Tensor inv_freq_;  // [head_dim / 2] f32, where the latest step was
  std::unique_ptr<nn::Embedding> embedding_;
  std::vector<nn::Block> blocks_;
  std::unique_ptr<nn::Head> head_;
  mutable nn::HostSpace host_space_;  // of offloaded blocks
};

// theta^(-2i/d) in f32 as transformers computes it, with Llama 3's scaling where the config has it.
Tensor rope_inverse_frequencies(const DecoderConfig& config);

}  // namespace weft::models
