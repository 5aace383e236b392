#include "recipes/eval.h"

#include <fmt/format.h>

#include "core/data/open_dataset.h"
#include "recipes/choose_device.h"
#include "recipes/evaluator.h"

namespace weft::recipes {
namespace {

void print(const Evaluation& e) {
  fmt::print("loss        {:.4f}\nperplexity  {:.3f}\n", e.loss, e.perplexity());
  if (e.labelled > 0)
    fmt::print("accuracy    {:.1f} %  ({} of {}; 95 % interval {:.1f} to {:.1f} %)\n",
               100 * e.accuracy(), e.correct, e.labelled, 100 * e.accuracy_low(),
               100 * e.accuracy_high());
  fmt::print("records     {}\ntokens      {} scored\n", e.records, e.tokens);
}

}  // namespace

void run_eval(const EvalOptions& options, const std::shared_ptr<parallel::Communicator>& world) {
  const std::optional<Json> run = run_config_of(options.model);
  const Model model =
      load_for_inference({.path = options.model,
                          .adapter = options.adapter,
                          .dtype = options.dtype,
                          .device = choose_device(options.device, options.local_rank, *world)});
  data::DataConfig config;
  config.record = options.record.resolve(run ? &*run : nullptr);
  config.seq_len = options.seq_len > 0 ? options.seq_len : model.config.max_sequence();
  config.too_long = options.too_long;
  const auto dataset = data::open_evaluation(options.files, config, *model.description.tokenizer,
                                             model.description.tokenizer_config,
                                             {.vocab_size = model.config.vocab_size});
  const Evaluation result = evaluate(model, *dataset, {.max_records = options.limit}, *world);
  if (world->rank() != 0) return;
  if (options.json) {
    fmt::print("{}\n", result.to_json().dump());
  } else {
    print(result);
  }
}

}  // namespace weft::recipes
