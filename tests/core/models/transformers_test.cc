// Equal to the world: logits, loss, every gradient and ten AdamW steps against transformers, by the
// measures of docs/architecture.md. Fixtures: tests/fixtures/models/make_models.py.
#include <gtest/gtest.h>

#include <cmath>

#include "checkpoint/safetensors.h"
#include "core/models/decoder.h"
#include "optim/adamw.h"
#include "optim/norm.h"
#include "parallel/units.h"
#include "parallel/world.h"
#include "tests/support/test_data.h"

namespace weft {
namespace {

constexpr int64_t kLengths[] = {7, 12, 1, 9};

double norm(const Tensor& a, const Tensor* b = nullptr) {
  double sum = 0;
  for (int64_t i = 0; i < a.numel(); ++i)
    sum += std::pow(a.data<float>()[i] - (b ? b->data<float>()[i] : 0), 2);
  return std::sqrt(sum);
}

class Transformers : public testing::TestWithParam<std::string> {
 protected:
  Transformers()
      : folder_(test::fixture("models/" + GetParam())),
        weights_(checkpoint::SafetensorsWeights::open_file(folder_ + "/model.safetensors")),
        golden_(checkpoint::SafetensorsWeights::open_file(folder_ + "/golden.safetensors")),
        decoder_(
            models::parse_decoder_config(Json::parse_file(folder_ + "/config.json"), "config.json"),
            DType::f32),
        units_(decoder_.units(), parallel::make_self()) {
    units_.materialize();
    for (const nn::ParameterPtr& p : decoder_.parameters()) weights_->read(p->name, 0, p->value);
    make_step();
  }

  Tensor golden(const std::string& name) const { return golden_->read_all(name, DType::f32); }
  Tensor golden_ints(const std::string& name) const {
    const Tensor values = golden(name);
    Tensor ints = Tensor::empty({values.numel()}, DType::i32);
    for (int64_t i = 0; i < values.numel(); ++i)
      ints.data<int32_t>()[i] = static_cast<int32_t>(values.data<float>()[i]);
    return ints;
  }

  void make_step() {
    step_.ids = golden_ints("ids");
    step_.labels = golden_ints("labels");
    step_.positions = Tensor::empty({step_.num_tokens()}, DType::i32);
    step_.weight_grads = &queue_;
    int64_t at = 0, scored = 0;
    for (int64_t length : kLengths) {
      step_.documents.push_back({.q_begin = at, .q_len = length, .kv_begin = at, .kv_len = length});
      for (int64_t i = 0; i < length; ++i, ++at) {
        step_.positions.data<int32_t>()[at] = static_cast<int32_t>(i);
        scored += step_.labels.data<int32_t>()[at] != -100;
      }
    }
    step_.loss_scale = Tensor::scalar(1.0f / static_cast<float>(scored));
    step_.loss_sum = Tensor::zeros({1}, DType::f64);
    decoder_.prepare(step_);
  }

  double train_step() {
    units_.zero_gradients();
    decoder_.train(step_, models::Recompute::selective, {}, false);
    return *step_.loss_sum.data<double>() * *step_.loss_scale.data<float>();
  }

  std::string folder_;
  std::unique_ptr<checkpoint::WeightSource> weights_, golden_;
  models::Decoder decoder_;
  parallel::Units units_;
  nn::WeightGrads queue_;
  nn::Step step_;
};

TEST_P(Transformers, LogitsAndLossAreEqual) {
  const Tensor expected = golden("logits");
  std::vector<int32_t> rows(static_cast<size_t>(step_.num_tokens()));
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i);
  const Tensor logits = decoder_.logits(step_, rows, {});
  EXPECT_LE(norm(logits, &expected), 1e-5 * norm(expected));
  EXPECT_NEAR(train_step(), golden("loss").data<float>()[0], 1e-5);
}

TEST_P(Transformers, EveryGradientIsEqual) {
  train_step();
  for (const nn::ParameterPtr& p : decoder_.parameters()) {
    const Tensor expected = golden("grad." + p->name);
    // A k-projection's bias has almost no gradient: softmax does not see a shift of all scores.
    const double floor = p->name.ends_with("k_proj.bias") ? 1e-5 : 0;
    EXPECT_LE(norm(p->grad, &expected), 1e-4 * norm(expected) + floor) << p->name;
  }
}

TEST_P(Transformers, TenAdamwStepsAreEqual) {
  optim::Adamw optimizer(units_.shards(), {.weight_decay = 0.1, .max_grad_norm = 1});
  const Tensor losses = golden("losses");
  for (int64_t i = 0; i < losses.numel(); ++i) {
    EXPECT_NEAR(train_step(), losses.data<float>()[i], 2e-5) << "step " << i;
    const Tensor squares =
        Tensor::zeros({1, static_cast<int64_t>(optimizer.shards().size())}, DType::f64);
    optim::sums_of_squares(optimizer.shards(), squares.reshape({squares.numel()}));
    optimizer.update(1e-3, i, squares);
  }
  double error = 0, way = 0;
  for (const nn::ParameterPtr& p : decoder_.parameters()) {
    if (p->name.ends_with("k_proj.bias")) continue;  // Adam makes full-size noise of no gradient
    const Tensor expected = golden("step." + p->name);
    const Tensor start = weights_->read_all(p->name, DType::f32);
    error += std::pow(norm(p->value, &expected), 2);
    way += std::pow(norm(expected, &start), 2);
  }
  EXPECT_LE(std::sqrt(error), 0.005 * std::sqrt(way));
  EXPECT_GT(way, 0);
}

INSTANTIATE_TEST_SUITE_P(Families, Transformers,
                         testing::Values("llama3", "mistral", "qwen2", "qwen3"));

}  // namespace
}  // namespace weft
