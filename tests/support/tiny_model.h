// Tiny decoders for tests: every family, with all that it has (biases, norms, scaled RoPE, grouped
// heads).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/base/rng.h"
#include "core/models/decoder.h"
#include "core/nn/init.h"
#include "parallel/units.h"
#include "parallel/world.h"

namespace weft::test {

inline models::DecoderConfig tiny_config(const std::string& family) {
  models::DecoderConfig c;
  c.model_type = family;
  c.vocab_size = 67;
  c.hidden_size = 24;
  c.intermediate_size = 40;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = family == "qwen3" ? 8 : 6;
  c.max_position_embeddings = 128;
  c.initializer_range = 0.2;
  c.qkv_bias = family == "qwen2";
  c.qk_norm = family == "qwen3";
  c.tie_word_embeddings = family == "qwen2";
  if (family == "llama")
    c.rope_scaling = models::Llama3RopeScaling{.original_max_position_embeddings = 16};
  return c;
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
  step.loss_scale = 1.0f / static_cast<float>(trained);
  decoder.prepare(step);
  return step;
}

}  // namespace weft::test
