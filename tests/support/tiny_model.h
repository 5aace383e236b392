// Tiny models for tests: every family, with all that it has (biases, norms, scaled RoPE, grouped
// heads), as files, as a description and as a decoder.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/model_files.h"
#include "core/base/rng.h"
#include "core/models/decoder.h"
#include "core/nn/init.h"
#include "parallel/units.h"
#include "parallel/world.h"

namespace weft::test {

// config.json of a family: "llama", "llama3" (scaled rotary), "mistral", "qwen2" (tied), "qwen3".
inline Json tiny_config_json(const std::string& family) {
  Json config(Json::Object{{"model_type", family == "llama3" ? "llama" : family},
                           {"hidden_size", 64},
                           {"intermediate_size", 96},
                           {"num_hidden_layers", 2},
                           {"num_attention_heads", 4},
                           {"num_key_value_heads", 2},
                           {"head_dim", family == "qwen3" ? 32 : 16},
                           {"vocab_size", 67},
                           {"max_position_embeddings", 512},
                           {"rms_norm_eps", 1e-5},
                           {"rope_theta", 10000.0},
                           {"initializer_range", 0.12},
                           {"tie_word_embeddings", family == "qwen2"}});
  if (family == "mistral") config.set("sliding_window", 128);
  if (family == "llama3")
    config.set("rope_scaling", Json::Object{{"rope_type", "llama3"},
                                            {"factor", 8.0},
                                            {"low_freq_factor", 1.0},
                                            {"high_freq_factor", 4.0},
                                            {"original_max_position_embeddings", 64}});
  return config;
}

inline models::DecoderConfig tiny_config(const std::string& family) {
  return models::parse_decoder_config(tiny_config_json(family), "tiny-" + family);
}

// As it is stored: config.json, and tensors of which none has special values.
struct TinyFiles {
  checkpoint::ModelDescription description;
  std::vector<std::pair<std::string, Tensor>> tensors;

  checkpoint::MemoryWeights weights() const { return checkpoint::MemoryWeights(tensors); }
  std::vector<checkpoint::ExpectedWeight> expected() const {
    std::vector<checkpoint::ExpectedWeight> out;
    for (const auto& [name, tensor] : tensors) out.push_back({name, tensor.shape()});
    return out;
  }
};

inline TinyFiles tiny_files(const std::string& family) {
  TinyFiles files;
  files.description.where = "tiny-" + family;
  files.description.config = tiny_config_json(family);
  for (const nn::ParameterPtr& p : models::Decoder(tiny_config(family), DType::f32).parameters()) {
    p->value = Tensor::empty(p->shape, DType::f32);
    p->init = {nn::Init::Kind::normal, 0.05f};
    nn::initialize(*p, 7);
    files.tensors.emplace_back(p->name, p->value);
  }
  return files;
}

// A decoder with memory and random values: biases and norms too, so that nothing is at a special
// point.
struct TinyModel {
  std::unique_ptr<models::Decoder> decoder;
  std::unique_ptr<parallel::Units> units;

  void materialize(uint64_t seed, bool f32_gradients = true,
                   std::shared_ptr<parallel::Communicator> data = nullptr) {
    units =
        std::make_unique<parallel::Units>(decoder->units(), data ? data : parallel::make_self());
    units->materialize({.gradients = true, .f32_gradients = f32_gradients});
    for (const nn::ParameterPtr& p : decoder->parameters()) {
      nn::initialize(*p, seed);
      if (p->init.kind == nn::Init::Kind::normal || p->init.kind == nn::Init::Kind::uniform)
        continue;
      nn::Parameter random = *p;
      random.init = {nn::Init::Kind::normal, 0.3f};
      const Tensor base = p->value.clone();
      nn::initialize(random, seed);
      for (int64_t i = 0; base.dtype() == DType::f32 && i < base.numel(); ++i)
        p->value.data<float>()[i] += base.data<float>()[i];
    }
    for (const nn::ParameterPtr& p : decoder->parameters())
      if (p->init_from_loaded) p->init_from_loaded(*p);
  }
  models::UnitHooks hooks() const {
    return {[this](size_t u) { units->gather(static_cast<int>(u)); },
            [this](size_t u) { units->release(static_cast<int>(u)); },
            [this](size_t u) { units->reduce(static_cast<int>(u)); }};
  }
};

// Documents of the given lengths with made-up tokens; every third label is ignored.
inline nn::Step tiny_step(const models::Decoder& decoder, const std::vector<int64_t>& lengths,
                          nn::WeightGrads& weight_grads, uint64_t seed = 1) {
  int64_t tokens = 0;
  for (int64_t length : lengths) tokens += length;
  nn::Step step;
  step.ids = Tensor::empty({tokens}, DType::i32);
  step.positions = Tensor::empty({tokens}, DType::i32);
  step.labels = Tensor::empty({tokens}, DType::i32);
  step.sample_ids = Tensor::empty({tokens}, DType::i64);
  step.weight_grads = &weight_grads;
  const int64_t vocab = decoder.config().vocab_size;
  int64_t at = 0, document = 0, trained = 0;
  for (int64_t length : lengths) {
    step.documents.push_back({.q_begin = at, .q_len = length, .kv_begin = at, .kv_len = length});
    for (int64_t i = 0; i < length; ++i, ++at) {
      const uint64_t draw = mix(seed, static_cast<uint64_t>(at));
      step.ids.data<int32_t>()[at] = static_cast<int32_t>(draw % vocab);
      step.positions.data<int32_t>()[at] = static_cast<int32_t>(i);
      step.sample_ids.data<int64_t>()[at] = document;
      const bool ignored = at % 3 == 2 || i + 1 == length;
      step.labels.data<int32_t>()[at] = ignored ? -100 : static_cast<int32_t>((draw >> 20) % vocab);
      trained += !ignored;
    }
    ++document;
  }
  step.loss_scale = Tensor::scalar(1.0f / static_cast<float>(trained));
  step.loss_sum = Tensor::zeros({1}, DType::f64);
  decoder.prepare(step);
  return step;
}

// One micro-batch of a model on the CPU; returns the sum of its loss.
inline double train_once(const models::Decoder& decoder, const nn::Step& step,
                         const models::RecomputePlan& recompute = models::Recompute::none,
                         const models::UnitHooks& hooks = {}, bool last_micro_batch = false) {
  decoder.train(step, recompute, hooks, last_micro_batch);
  return *step.loss_sum.data<double>();
}

}  // namespace weft::test
