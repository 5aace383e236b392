#include "recipes/memory_advice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace weft::recipes {
namespace {

using testing::HasSubstr;
using testing::Not;

// A block keeps 2 * 8 + 16 + 8 + 2 * 32 = 104 elements of a token, with norms and SwiGLU 152.
MemoryFacts tiny() {
  MemoryFacts facts;
  facts.model.num_hidden_layers = 2;
  facts.model.hidden_size = 8;
  facts.model.num_attention_heads = 2;
  facts.model.num_key_value_heads = 1;
  facts.model.head_dim = 4;
  facts.model.intermediate_size = 32;
  facts.dtype = DType::bf16;
  facts.trainable = facts.total = 1000;
  facts.gradient_bytes = 4;
  return facts;
}

RunConfig run(Recipe recipe, models::Recompute recompute) {
  RunConfig config;
  config.recipe = recipe;
  config.data.seq_len = 10;
  config.train.micro_batch = 4;
  config.train.recompute = recompute;
  return config;
}

double saved_by(const std::vector<Saving>& savings, const std::string& change) {
  for (const Saving& saving : savings)
    if (saving.change == change) return saving.bytes;
  return -1;
}

TEST(MemoryAdvice, CountsWhatTheTapeKeeps) {
  const MemoryFacts facts = tiny();
  const auto kept = [&](const models::RecomputePlan& plan) {
    return kept_bytes_a_token(facts.model, plan, DType::bf16);
  };
  EXPECT_EQ(kept(models::Recompute::none), 2 * 152 * 2);
  EXPECT_EQ(kept(models::Recompute::selective), 2 * 104 * 2);
  EXPECT_EQ(kept(models::Recompute::full), 2 * 8 * 2);
  EXPECT_EQ(kept({models::Recompute::full, 1}), (8 + 104) * 2);
  MemoryFacts deep = tiny();  // one of the offloaded blocks counts: it comes or goes
  deep.model.num_hidden_layers = 8;
  const auto kept_of = [&](models::Recompute mode, size_t offloaded) {
    return kept_bytes_a_token(deep.model, models::RecomputePlan(mode).with_offload(offloaded, 8),
                              DType::bf16);
  };
  EXPECT_EQ(kept_of(models::Recompute::none, 4), 5 * 152 * 2);
  EXPECT_EQ(kept_of(models::Recompute::selective, 8), 104 * 2);
  EXPECT_EQ(kept_of(models::Recompute::full, 2), (6 * 8 + 104) * 2);
}

TEST(MemoryAdvice, SaysWhatEachChangeSaves) {
  const auto savings = memory_savings(run(Recipe::sft, models::Recompute::none), tiny());
  EXPECT_EQ(saved_by(savings, "train.micro_batch=2"), 2 * 152 * 2 * 40 / 2);
  EXPECT_EQ(saved_by(savings, "train.recompute=selective"), 2 * 48 * 2 * 40);
  EXPECT_EQ(saved_by(savings, "train.recompute=full"), 2 * 144 * 2 * 40);
  EXPECT_EQ(saved_by(savings, "recipe=lora"), 1000 * (12 + 4));
  EXPECT_EQ(saved_by(savings, "train.master_weights=none"), 4000);
  EXPECT_EQ(saved_by(savings, "2 ranks instead of 1"), 6000);
  for (size_t i = 1; i < savings.size(); ++i) EXPECT_GE(savings[i - 1].bytes, savings[i].bytes);
}

TEST(MemoryAdvice, KnowsThatPlainLoraKeepsNoNorms) {
  RunConfig config = run(Recipe::lora, models::Recompute::none);
  EXPECT_THAT(memory_advice(config, tiny()), Not(HasSubstr("recompute=selective")));
  EXPECT_EQ(saved_by(memory_savings(config, tiny()), "train.recompute=full"), 2 * 96 * 2 * 40);
  config.lora.dropout = 0.1;
  EXPECT_EQ(saved_by(memory_savings(config, tiny()), "train.recompute=selective"), 2 * 48 * 2 * 40);
}

TEST(MemoryAdvice, OffersToOffloadHalfOfTheBlocksThenAllButTheLast) {
  MemoryFacts facts = tiny();
  facts.model.num_hidden_layers = 8;
  RunConfig config = run(Recipe::sft, models::Recompute::selective);
  EXPECT_THAT(memory_advice(config, facts), Not(HasSubstr("offload")));  // the CPU's: no gain
  facts.device = {DeviceKind::cuda, 0};
  const double block = 104 * 2 * 40;
  EXPECT_EQ(saved_by(memory_savings(config, facts), "train.offload_layers=4"), 3 * block);
  config.train.offload_layers = 4;
  const auto savings = memory_savings(config, facts);
  EXPECT_EQ(saved_by(savings, "train.offload_layers=7"), 3 * block);
  EXPECT_EQ(saved_by(savings, "train.micro_batch=2"), 5 * block / 2);
  EXPECT_EQ(saved_by(savings, "train.recompute=full"), 4 * (block - 8 * 2 * 40));
  config.train.offload_layers = 7;
  EXPECT_THAT(memory_advice(config, facts), Not(HasSubstr("offload")));
  config = run(Recipe::sft, models::Recompute::full);  // keeps less than it would fetch
  facts.model.num_hidden_layers = 4;
  EXPECT_THAT(memory_advice(config, facts), Not(HasSubstr("offload")));
}

TEST(MemoryAdvice, NamesNothingThatTheRunDoesAlready) {
  RunConfig config = run(Recipe::lora, models::Recompute::full);
  config.train.micro_batch = 1;
  config.train.optimizer_dtype = Precision::bf16;
  config.train.master_weights = MasterWeights::none;
  const std::string advice = memory_advice(config, tiny());
  EXPECT_THAT(advice, HasSubstr("2 ranks instead of 1 saves about 0.00 GiB"));
  for (const char* done : {"micro_batch", "recompute", "recipe=lora", "optimizer_dtype", "master"})
    EXPECT_THAT(advice, Not(HasSubstr(done)));
}

}  // namespace
}  // namespace weft::recipes
