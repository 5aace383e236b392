#include "recipes/memory_advice.h"

#include <fmt/format.h>

#include <algorithm>

namespace weft::recipes {
namespace {

// What a block keeps of one token, in elements (core/nn/block.cc, attention.cc, mlp.cc).
double kept_elements(const models::DecoderConfig& m, models::Recompute mode, bool plain_lora) {
  const double width = static_cast<double>(m.hidden_size);
  const double q = static_cast<double>(m.num_attention_heads * m.head_dim);
  const double qkv = q + static_cast<double>(2 * m.num_key_value_heads * m.head_dim);
  const double ffn = static_cast<double>(m.intermediate_size);
  if (mode == models::Recompute::full) return width;
  const double needed = 2 * width + qkv + q + 2 * ffn;  // residuals, qkv, attention, gate and up
  return plain_lora || mode == models::Recompute::selective ? needed : needed + 2 * width + ffn;
}

}  // namespace

double kept_bytes_a_token(const models::DecoderConfig& model, const models::RecomputePlan& plan,
                          DType dtype, bool plain_lora) {
  double elements = 0;
  for (size_t layer = 0; layer < static_cast<size_t>(model.num_hidden_layers); ++layer)
    if (!plan.offloads(layer)) elements += kept_elements(model, plan.of(layer), plain_lora);
  if (plan.offloaded > 0)  // one comes or goes
    elements += kept_elements(model, plan.of(0), plain_lora);
  return elements * static_cast<double>(size_of(dtype));
}

std::vector<Saving> memory_savings(const RunConfig& config, const MemoryFacts& facts) {
  const TrainConfig& train = config.train;
  const double tokens = static_cast<double>(train.micro_batch * config.data.seq_len);
  const int64_t blocks = facts.model.num_hidden_layers;
  const models::RecomputePlan plan = train.recompute_plan(blocks);
  const bool plain_lora = config.recipe == Recipe::lora && config.lora.dropout == 0;
  const auto kept_by = [&](const models::RecomputePlan& other) {
    return kept_bytes_a_token(facts.model, other, facts.dtype, plain_lora) * tokens;
  };
  const double kept = kept_by(plan);
  const double trainable = static_cast<double>(facts.trainable);
  const bool master = facts.dtype != DType::f32 && train.master_weights == MasterWeights::fp32;
  const bool small_states = train.optimizer_dtype == Precision::bf16;
  const double states = trainable * ((small_states ? 4 : 8) + (master ? 4 : 0)) / facts.ranks;

  std::vector<Saving> savings;
  if (train.micro_batch > 1)
    savings.push_back({fmt::format("train.micro_batch={}", train.micro_batch / 2), kept / 2});
  for (models::Recompute mode : {models::Recompute::selective, models::Recompute::full}) {
    const double then =
        kept_by(models::RecomputePlan(mode).with_offload(plan.offloaded, plan.blocks));
    if (then < kept)
      savings.push_back(
          {fmt::format("train.recompute={}", enum_name(mode, kRecomputeNames)), kept - then});
  }
  // Half of the blocks as long as there are fewer, then all but the last.
  const int64_t offload = train.offload_layers < blocks / 2 ? blocks / 2 : blocks - 1;
  if (!facts.device.is_cpu() && train.offload_layers < offload) {
    const double then =
        kept_by(plan.with_offload(static_cast<size_t>(offload), static_cast<size_t>(blocks)));
    if (then < kept)
      savings.push_back({fmt::format("train.offload_layers={}", offload), kept - then});
  }
  if (config.recipe != Recipe::lora)
    savings.push_back(
        {"recipe=lora", states + trainable * static_cast<double>(facts.gradient_bytes)});
  if (!small_states) savings.push_back({"train.optimizer_dtype=bf16", trainable * 4 / facts.ranks});
  if (master && facts.dtype == DType::bf16)
    savings.push_back({"train.master_weights=none", trainable * 4 / facts.ranks});
  savings.push_back(
      {fmt::format("{} ranks instead of {}", 2 * facts.ranks, facts.ranks), states / 2});
  std::stable_sort(savings.begin(), savings.end(),
                   [](const Saving& a, const Saving& b) { return a.bytes > b.bytes; });
  return savings;
}

std::string memory_advice(const RunConfig& config, const MemoryFacts& facts) {
  std::string advice;
  for (const Saving& saving : memory_savings(config, facts))
    advice += fmt::format("  {} saves about {:.2f} GiB\n", saving.change,
                          saving.bytes / (1024.0 * 1024 * 1024));
  return advice;
}

void with_memory_advice(const RunConfig& config, const Model& model,
                        const std::function<void()>& work) {
  try {
    work();
  } catch (const OutOfMemory& error) {
    MemoryFacts facts{.model = model.config,
                      .trainable = model.trainable_parameters(),
                      .total = model.total_parameters(),
                      .ranks = model.units->communicator()->size(),
                      .device = model.device};
    for (const nn::ParameterPtr& p : model.decoder->parameters()) {
      if (!p->trainable) continue;
      facts.dtype = p->dtype;
      facts.gradient_bytes = static_cast<int64_t>(size_of(p->grad.dtype()));
    }
    throw OutOfMemory(std::string(error.what()) + memory_advice(config, facts));
  }
}

}  // namespace weft::recipes
