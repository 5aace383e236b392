// A driver for the scripts beside it: what Weft computes for one batch of documents, as
// safetensors.
//   dump_gradients MODEL IDS.json OUT.safetensors [logits]
// IDS.json: a list of documents, each a list of token ids. OUT: logits [T,V] and, without the word
// logits, loss [1] (mean over all next tokens) and grad.<name> of every parameter, all f32.
#include <fmt/core.h>

#include <string_view>

#include "checkpoint/safetensors_writer.h"
#include "core/ops/cross_entropy.h"
#include "recipes/model.h"

using namespace weft;

namespace {

nn::Step make_step(const Json& documents) {
  nn::Step step;
  int64_t tokens = 0;
  for (const Json& document : documents.as_array())
    tokens += static_cast<int64_t>(document.as_array().size());
  step.ids = Tensor::empty({tokens}, DType::i32);
  step.positions = Tensor::empty({tokens}, DType::i32);
  step.labels = Tensor::empty({tokens}, DType::i32);
  int64_t at = 0;
  for (const Json& document : documents.as_array()) {
    const Json::Array& ids = document.as_array();
    const int64_t n = static_cast<int64_t>(ids.size());
    step.documents.push_back({.q_begin = at, .q_len = n, .kv_begin = at, .kv_len = n});
    for (int64_t i = 0; i < n; ++i, ++at) {
      step.ids.data<int32_t>()[at] = static_cast<int32_t>(ids[static_cast<size_t>(i)].as_int());
      step.positions.data<int32_t>()[at] = static_cast<int32_t>(i);
      step.labels.data<int32_t>()[at] =
          i + 1 < n ? static_cast<int32_t>(ids[static_cast<size_t>(i) + 1].as_int())
                    : ops::kIgnoredLabel;
    }
  }
  return step;
}

/// One pass forward and backward; adds the loss and every gradient to `out`.
void train(recipes::Model& model, nn::Step& step,
           std::vector<std::pair<std::string, Tensor>>& out) {
  nn::WeightGrads queue;
  step.weight_grads = &queue;
  const int64_t scored = step.num_tokens() - static_cast<int64_t>(step.documents.size());
  step.loss_scale = Tensor::scalar(1.0f / static_cast<float>(scored));
  step.loss_sum = Tensor::zeros({1}, DType::f64);
  model.decoder->train(step, models::Recompute::selective, model.hooks(), false);
  Tensor mean = Tensor::empty({1}, DType::f32);
  mean.data<float>()[0] =
      static_cast<float>(*step.loss_sum.data<double>() / static_cast<double>(scored));
  out.emplace_back("loss", mean);
  for (const nn::ParameterPtr& p : model.decoder->parameters())
    out.emplace_back("grad." + p->name, p->grad);
}

}  // namespace

int main(int argc, char** argv) try {
  const bool only_logits = argc == 5 && std::string_view(argv[4]) == "logits";
  if (argc != 4 && !only_logits)
    fail(ErrorKind::usage, "dump_gradients MODEL IDS.json OUT.safetensors [logits]");
  recipes::Model model = recipes::load_model({.path = argv[1], .dtype = DType::f32});
  nn::Step step = make_step(Json::parse_file(argv[2]));
  model.decoder->prepare(step);
  std::vector<int32_t> rows(static_cast<size_t>(step.num_tokens()));
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i);
  std::vector<std::pair<std::string, Tensor>> out;
  out.emplace_back("logits", model.decoder->logits(step, rows, model.hooks()));
  if (!only_logits) train(model, step, out);
  std::vector<checkpoint::SafetensorsPlan> plan;
  for (const auto& [name, tensor] : out) plan.push_back({name, name, DType::f32});
  checkpoint::write_safetensors(argv[3], checkpoint::MemoryWeights(std::move(out)), plan);
  return 0;
} catch (const std::exception& e) {
  fmt::print(stderr, "dump_gradients: {}\n", e.what());
  return 1;
}
