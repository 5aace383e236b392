#include "core/models/decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>

#include "core/nn/lora.h"
#include "core/ops/cross_entropy.h"
#include "tests/support/errors.h"
#include "tests/support/tiny_model.h"

namespace weft {
namespace {

using models::Recompute;
using ::testing::HasSubstr;

struct Case {
  std::string family;
  bool lora = false;
  bool dora = false;
  double dropout = 0;
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.family << (c.lora ? "_lora" : "") << (c.dora ? "_dora" : "")
       << (c.dropout > 0 ? "_dropout" : "");
}

test::TinyModel make(const Case& c, DType dtype = DType::f32) {
  test::TinyModel model;
  model.decoder = std::make_unique<models::Decoder>(test::tiny_config(c.family), dtype);
  if (c.lora) {
    nn::LoraConfig lora;
    lora.rank = 3;
    lora.alpha = 1.5;
    lora.dropout = c.dropout;
    lora.dora = c.dora;
    nn::apply_lora(model.decoder->projections(), model.decoder->parameters(), lora);
  }
  model.materialize(7);
  return model;
}

double loss_of(const test::TinyModel& model, nn::Step& step) {
  // Through the training path, so that dropout is the same; gradients are scrap.
  return test::train_once(*model.decoder, step) * *step.loss_scale.data<float>();
}

class DecoderGradient : public testing::TestWithParam<Case> {};

TEST_P(DecoderGradient, AgreesWithFiniteDifferencesForEveryParameter) {
  test::TinyModel model = make(GetParam());
  nn::WeightGrads queue;
  nn::Step step = test::tiny_step(*model.decoder, {7, 5, 1, 11}, queue);
  model.units->zero_gradients();
  model.decoder->train(step, Recompute::none, {}, false);
  std::map<std::string, Tensor> grads;  // apart: every further pass adds to Parameter::grad
  for (const nn::ParameterPtr& p : model.decoder->parameters())
    if (p->trainable) grads[p->name] = p->grad.clone();
  int checked = 0;
  for (const nn::ParameterPtr& p : model.decoder->parameters()) {
    if (!p->trainable) {
      EXPECT_FALSE(p->grad.defined()) << p->name;
      continue;
    }
    // Along the gradient itself: the derivative there is its norm. DoRA's norm is a constant in the
    // backward (by definition not the true derivative), so A and B are left to the comparison with
    // PEFT.
    if (GetParam().dora && p->name.find("magnitude") == std::string::npos) continue;
    const Tensor grad = grads[p->name], value = p->value.clone();
    double norm = 0;
    for (int64_t i = 0; i < grad.numel(); ++i) norm += std::pow(grad.data<float>()[i], 2);
    norm = std::sqrt(norm);
    ASSERT_GT(norm, 1e-7) << p->name << " has no gradient";
    const double h = 1e-2 / std::max(1.0, norm);
    double losses[2];
    for (int side = 0; side < 2; ++side) {
      for (int64_t i = 0; i < grad.numel(); ++i)
        p->value.data<float>()[i] = static_cast<float>(
            value.data<float>()[i] + (side ? 1 : -1) * h * grad.data<float>()[i] / norm);
      losses[side] = loss_of(model, step);
    }
    p->value.copy_from(value);
    const double numeric = (losses[1] - losses[0]) / (2 * h);
    EXPECT_NEAR(numeric, norm, 0.02 * norm + 2e-4) << p->name;
    ++checked;
  }
  EXPECT_GT(checked, 10);
}

TEST_P(DecoderGradient, IsTheSameBitForBitWhateverIsRecomputedOrOffloaded) {
  std::vector<std::vector<Tensor>> grads;
  std::vector<double> losses;
  std::vector<models::RecomputePlan> plans = {
      Recompute::none, Recompute::selective, Recompute::full, {Recompute::full, 1}};
  for (size_t plain = 0; plain < 4; ++plain)
    for (size_t offloaded : {1, 2}) plans.push_back(plans[plain].with_offload(offloaded, 2));
  for (const models::RecomputePlan& recompute : plans) {
    test::TinyModel model = make(GetParam());
    nn::WeightGrads queue;
    nn::Step step = test::tiny_step(*model.decoder, {9, 4, 8}, queue);
    losses.push_back(test::train_once(*model.decoder, step, recompute));
    grads.emplace_back();
    for (const nn::ParameterPtr& p : model.decoder->parameters())
      if (p->trainable) grads.back().push_back(p->grad.clone());
  }
  for (size_t other = 1; other < grads.size(); ++other) {
    EXPECT_EQ(losses[0], losses[other]);
    for (size_t i = 0; i < grads[0].size(); ++i)
      EXPECT_EQ(std::memcmp(grads[0][i].raw(), grads[other][i].raw(), grads[0][i].bytes()), 0) << i;
  }
}

TEST_P(DecoderGradient, OfTwoMicroBatchesIsThatOfBothAtOnce) {
  test::TinyModel together = make(GetParam()), apart = make(GetParam());
  nn::WeightGrads queue;
  nn::Step both = test::tiny_step(*together.decoder, {6, 9}, queue);
  together.decoder->train(both, Recompute::none, {}, false);
  for (int part = 0; part < 2; ++part) {
    const int64_t begin = part * 6, end = part ? 15 : 6;
    nn::Step step = both;
    step.ids = both.ids.rows(begin, end);
    step.positions = both.positions.rows(begin, end);
    step.labels = both.labels.rows(begin, end);
    step.sample_ids = both.sample_ids.rows(begin, end);
    step.documents = {{.q_begin = 0, .q_len = end - begin, .kv_begin = 0, .kv_len = end - begin}};
    apart.decoder->prepare(step);
    apart.decoder->train(step, Recompute::none, {}, false);
  }
  const auto a = together.decoder->parameters(), b = apart.decoder->parameters();
  for (size_t i = 0; i < a.size(); ++i) {
    if (!a[i]->trainable) continue;
    double diff = 0, norm = 0;
    for (int64_t j = 0; j < a[i]->grad.numel(); ++j) {
      diff += std::pow(a[i]->grad.data<float>()[j] - b[i]->grad.data<float>()[j], 2);
      norm += std::pow(a[i]->grad.data<float>()[j], 2);
    }
    EXPECT_LE(std::sqrt(diff), 1e-5 * std::sqrt(norm) + 1e-9) << a[i]->name;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, DecoderGradient,
                         testing::Values(Case{"llama3"}, Case{"mistral"}, Case{"qwen2"},
                                         Case{"qwen3"}, Case{"llama3", true},
                                         Case{"qwen2", true, false, 0.3},
                                         Case{"qwen3", true, true}),
                         testing::PrintToStringParamName());

// Of 12 blocks: what is kept at most falls nearly by what the offloaded ones keep.
TEST(Decoder, OffloadedBlocksHoldNoMemoryOfTheDevice) {
  models::DecoderConfig config = test::tiny_config("llama3");
  config.num_hidden_layers = 12;
  test::TinyModel model;
  model.decoder = std::make_unique<models::Decoder>(config, DType::f32);
  model.materialize(7);
  nn::WeightGrads queue;
  nn::Step step = test::tiny_step(*model.decoder, {40, 60, 50}, queue);
  const auto peak = [&](const models::RecomputePlan& plan) {
    const size_t before = memory_use(MemoryTag::activation).current;
    reset_memory_peaks();
    model.decoder->train(step, plan, {}, false);
    EXPECT_EQ(memory_use(MemoryTag::activation).current, before);
    return static_cast<double>(memory_use(MemoryTag::activation).peak - before);
  };
  EXPECT_EQ(model.decoder->offload_bytes(), 0u);
  // All that four blocks keep, less what is on its way at the turn.
  for (const Recompute mode : {Recompute::selective, Recompute::none}) {
    const models::RecomputePlan plain(mode);
    const double none = peak(plain), four = peak(plain.with_offload(4, 12));
    const double block = static_cast<double>(model.decoder->offload_bytes()) / 4;
    EXPECT_LT(four, none - 3 * block);
    EXPECT_GT(four, none - 4.1 * block);
    model.decoder->train(step, plain.with_offload(4, 12), {}, false);
    EXPECT_EQ(static_cast<double>(model.decoder->offload_bytes()), 4 * block);
  }
  const double none = peak(Recompute::none);
  EXPECT_LT(peak(models::RecomputePlan(Recompute::none).with_offload(12, 12)), 0.35 * none);
}

TEST(Decoder, ADocumentDoesNotSeeAnother) {
  test::TinyModel model = make({"llama3"});
  nn::WeightGrads queue;
  nn::Step step = test::tiny_step(*model.decoder, {6, 5}, queue);
  step.mode = nn::Mode::evaluate;
  const Tensor before = model.decoder->logits(step, {6, 10}, {});
  for (int i = 0; i < 6; ++i) step.ids.data<int32_t>()[i] = 3;
  const Tensor after = model.decoder->logits(step, {6, 10}, {});
  EXPECT_EQ(std::memcmp(before.raw(), after.raw(), before.bytes()), 0);
}

TEST(Decoder, AFreshAdapterChangesNothing) {
  test::TinyModel plain = make({"qwen3"}), adapted;
  adapted.decoder = std::make_unique<models::Decoder>(test::tiny_config("qwen3"), DType::f32);
  nn::LoraConfig lora;
  lora.rank = 3;
  lora.dora = true;
  nn::apply_lora(adapted.decoder->projections(), adapted.decoder->parameters(), lora);
  adapted.materialize(7);
  for (const nn::ParameterPtr& p : adapted.decoder->parameters())
    if (p->name.find("lora_B") != std::string::npos) p->value.zero_();
  for (const nn::ParameterPtr& p : adapted.decoder->parameters())
    if (p->init_from_loaded) p->init_from_loaded(*p);
  nn::WeightGrads queue;
  nn::Step step = test::tiny_step(*plain.decoder, {6, 5}, queue);
  step.mode = nn::Mode::evaluate;
  const Tensor a = plain.decoder->logits(step, {0, 3, 9}, {});
  const Tensor b = adapted.decoder->logits(step, {0, 3, 9}, {});
  for (int64_t i = 0; i < a.numel(); ++i) EXPECT_NEAR(a.data<float>()[i], b.data<float>()[i], 2e-5);
}

TEST(Decoder, ABlueprintHoldsNoMemory) {
  models::DecoderConfig c = test::tiny_config("llama");
  c.hidden_size = 16384;
  c.intermediate_size = 53248;
  c.num_hidden_layers = 126;
  c.num_attention_heads = 128;
  c.num_key_value_heads = 8;
  c.head_dim = 128;
  c.vocab_size = 128256;
  const size_t before = memory_use_total().current;
  const models::Decoder decoder(c, DType::bf16);
  EXPECT_LT(memory_use_total().current, before + 4096);
  int64_t count = 0;
  for (const nn::ParameterPtr& p : decoder.parameters()) count += p->shape.numel();
  EXPECT_EQ(count, 405853388800);  // Llama 3.1 405B
  EXPECT_EQ(count, c.block_parameters() + 2 * c.vocab_size * c.hidden_size);
}

TEST(Lora, ATargetThatMatchesNothingIsAnError) {
  models::Decoder decoder(test::tiny_config("llama"), DType::f32);
  nn::LoraConfig lora;
  lora.targets = {"q_proj", "query"};
  const auto apply = [&] { nn::apply_lora(decoder.projections(), decoder.parameters(), lora); };
  EXPECT_THAT(test::error_of(ErrorKind::usage, apply),
              HasSubstr("'query' matches no linear layer"));
}

TEST(Lora, QueryKeyValueMeansThreeProjections) {
  models::Decoder decoder(test::tiny_config("llama"), DType::f32);
  nn::LoraConfig lora;
  lora.targets = {"query_key_value"};
  nn::apply_lora(decoder.projections(), decoder.parameters(), lora);
  int adapters = 0;
  for (const nn::ParameterPtr& p : decoder.parameters())
    adapters += p->name.ends_with("lora_A.weight");
  EXPECT_EQ(adapters, 3 * 2);
}

}  // namespace
}  // namespace weft
