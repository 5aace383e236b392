#include "recipes/bench_floor.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/tiny_model.h"

namespace weft::recipes {
namespace {

// tiny_config: width 64, gate 96, 4 heads and 2 kv heads of 16, 2 layers, vocabulary 67.
StepShape tiny_shape() {
  return {.model = test::tiny_config("llama"), .rows = 2, .seq_len = 24, .micro_batches = 3};
}

double elements_a_token(const StepShape& shape) {
  return elementwise_bytes(shape) / (shape.tokens_a_step() * 4);
}

TEST(Floor, CountsTheBytesBetweenTheProducts) {
  const double h = 64, f = 96, q_and_k = 96;
  const double forward = 6 * h + 2 * q_and_k + 3 * f;
  const double none = 2 * (forward + 8 * h + 2 * q_and_k + 5 * f) + 3 * 67 + 15 * h;
  StepShape shape = tiny_shape();
  EXPECT_DOUBLE_EQ(elements_a_token(shape), none);
  shape.recompute = Recompute::selective;
  EXPECT_DOUBLE_EQ(elements_a_token(shape), none + 2 * (2 * h + f));
  shape.recompute = Recompute::full;
  EXPECT_DOUBLE_EQ(elements_a_token(shape), none + 2 * forward);
  shape.recompute = {Recompute::full, 1};  // of the two blocks; the other selective
  EXPECT_DOUBLE_EQ(elements_a_token(shape), none + forward + (2 * h + f));
  shape.recompute = models::RecomputePlan(Recompute::full).with_offload(1, 2);  // the same
  EXPECT_DOUBLE_EQ(elements_a_token(shape), none + forward + (2 * h + f));
  shape.recompute = Recompute::none;
  shape.frozen_base = true;  // q + k + v is 128 wide
  const double lora = none - 5 * h + 2 * ((h + 128) + (64 + h) + h + h);
  EXPECT_DOUBLE_EQ(elements_a_token(shape), lora);
  shape.recompute = Recompute::selective;
  EXPECT_DOUBLE_EQ(elements_a_token(shape), lora);
}

TEST(Floor, IsTheSumOfItsParts) {
  StepShape shape = tiny_shape();
  shape.optimizer_bytes = 1 << 20;
  const Floor floor = measure_floor(shape);
  ASSERT_EQ(floor.products.size(), 15u);
  ASSERT_EQ(floor.attention.size(), 2u);
  double seconds = 0, flops = 0;
  for (const FloorPart& part : floor.products) {
    EXPECT_GT(part.seconds, 0) << part.name;
    EXPECT_GT(part.calls, 0) << part.name;
    seconds += part.total();
    flops += part.flops * part.calls;
  }
  for (const FloorPart& part : floor.attention) flops += part.flops * part.calls;
  EXPECT_DOUBLE_EQ(seconds, floor.products_seconds());
  EXPECT_GT(floor.copy_bytes_per_second, 1e8);
  EXPECT_DOUBLE_EQ(floor.seconds(), floor.products_seconds() + floor.attention_seconds() +
                                        floor.elementwise_seconds() + floor.optimizer_seconds());
  // The parts are the whole: the formula of metrics.md, less its norms and with attention's
  // backward of five products instead of four.
  const models::DecoderConfig& c = shape.model;
  const double norms = 6.0 * static_cast<double>((2 * c.num_hidden_layers + 1) * c.hidden_size);
  const double fifth = static_cast<double>(c.num_hidden_layers * c.hidden_size * shape.seq_len);
  EXPECT_NEAR(flops / shape.tokens_a_step(),
              c.flops_per_token(shape.seq_len, false) - norms + fifth, 1);
}

}  // namespace
}  // namespace weft::recipes
