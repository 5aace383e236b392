#include "recipes/train.h"

#include <fmt/format.h>

#include <cstdio>

#include "core/base/log.h"
#include "core/data/open_dataset.h"
#include "core/ops/matmul.h"
#include "core/telemetry/peak_flops.h"
#include "core/telemetry/trace.h"
#include "parallel/mesh.h"
#include "parallel/nccl_communicator.h"
#include "recipes/choose_device.h"
#include "recipes/export.h"
#include "recipes/memory_advice.h"
#include "recipes/product_algorithms.h"
#include "recipes/trainer.h"

namespace weft::recipes {
namespace {

// TrainConfig::check sees what `auto` says only here.
void check_fp16(const TrainConfig& train) {
  const bool bf16_gradients = train.gradient_dtype == Precision::bf16;
  if (!bf16_gradients && train.master_weights == MasterWeights::fp32) return;
  fail(ErrorKind::usage,
       "train.dtype=auto is fp16 on this GPU, which has no bf16, and {} does not go with it: leave "
       "it away, or use train.dtype=fp32",
       bf16_gradients ? "train.gradient_dtype=bf16" : "train.master_weights=none");
}

}  // namespace

ModelOptions model_options(const RunConfig& config, const parallel::Mesh& mesh, Device device) {
  const DType dtype = dtype_of(config.train.dtype, device);
  if (dtype == DType::f16) check_fp16(config.train);
  // One micro-batch a step rounds its sum once; more of them are added in f32.
  const int64_t ranks = mesh.data().size();
  const bool one_micro_batch = config.train.global_batch <= config.train.micro_batch * ranks;
  const bool f32_gradients = config.train.gradient_dtype == Precision::automatic
                                 ? dtype != DType::bf16 || !one_micro_batch
                                 : config.train.gradient_dtype == Precision::fp32;
  ModelOptions options{.path = config.model.path,
                       .config_path = config.model.config,
                       .tokenizer = config.model.tokenizer,
                       .adapter = config.model.adapter,
                       .dtype = dtype,
                       .seed = static_cast<uint64_t>(config.train.seed)};
  if (config.recipe == Recipe::lora && config.model.adapter.empty()) options.lora = &config.lora;
  options.units.f32_gradients = f32_gradients;
  options.units.device = device;
  options.units.reduce_dtype = parallel::dtype_of(config.parallel.reduce_dtype);
  options.data = mesh.group(nn::Axis::data);
  if (!device.is_cpu() && options.data->size() > 1)
    options.data = parallel::make_nccl(options.data, device,
                                       {.timeout_seconds = config.parallel.timeout.seconds});
  return options;
}

telemetry::Machine machine_of(const Model& model, const parallel::Communicator& world) {
  const DType dtype = model.decoder->parameters().front()->dtype;
  return {.devices = world.size(),
          .peak_flops = telemetry::peak_flops(model.device, dtype),
          .device = model.device};
}

namespace {

void check_model(const RunConfig& config, const Model& model) {
  config.train.recompute_plan(model.config.num_hidden_layers);
  if (config.data.seq_len > model.config.max_sequence())
    fail(ErrorKind::usage,
         "data.seq_len is {}, but the model takes at most {} tokens ({}): lower data.seq_len",
         config.data.seq_len, model.config.max_sequence(),
         model.config.sliding_window > 0 ? "its sliding window" : "max_position_embeddings");
}

std::string thousands(int64_t n) {
  std::string digits = std::to_string(n);
  for (int64_t i = static_cast<int64_t>(digits.size()) - 3; i > 0; i -= 3) digits.insert(i, ",");
  return digits;
}

Json base_identity(const RunConfig& config, const Model& model) {
  if (config.recipe != Recipe::lora || !model.weights) return {};
  Json base;
  base.set("path", config.model.path);
  base.set("hash", weights_hash(*model.weights));
  return base;
}

Json summary(const RunConfig& config, const Trainer& trainer) {
  Json json;
  json.set("output_dir", config.output_dir);
  json.set("step", trainer.state().step);
  json.set("tokens", trainer.state().tokens);
  json.set("skipped", trainer.state().skipped);
  if (trainer.last_evaluation().records > 0)
    json.set("evaluation", trainer.last_evaluation().to_json());
  return json;
}

}  // namespace

void run_train(const TrainOptions& options, const std::shared_ptr<parallel::Communicator>& world) {
  const RunConfig& config = options.config;
  const parallel::Mesh mesh(world, {.pipeline = static_cast<int>(config.parallel.pipeline),
                                    .data = static_cast<int>(config.parallel.data),
                                    .context = static_cast<int>(config.parallel.context),
                                    .tensor = static_cast<int>(config.parallel.tensor)});
  checkpoint::RunFolder folder(*world, checkpoint::local_file_system(), config.output_dir);
  const Device device = choose_device(config.train.device, options.local_rank, *world);
  limit_memory(config.train.memory_limit.count, device);
  ops::allow_tf32(config.train.tf32);
  Model model = load_model(model_options(config, mesh, device));
  check_model(config, model);
  with_memory_advice(config, model, [&] {
    choose_product_algorithms(model, config, options.cache_folder, *world);
  });
  const data::Datasets datasets = data::open_datasets(config.data, *model.description.tokenizer,
                                                      model.description.tokenizer_config,
                                                      {.vocab_size = model.config.vocab_size});
  const int64_t trainable = model.trainable_parameters(), total = model.total_parameters();
  log::info("{} on {} ranks ({}) in {}: trains {} of {} parameters ({:.2f} %)",
            enum_name(config.recipe, kRecipeNames), world->size(), device.is_cpu() ? "cpu" : "cuda",
            name_of(model.decoder->parameters().front()->dtype), thousands(trainable),
            thousands(total), 100.0 * static_cast<double>(trainable) / static_cast<double>(total));
  telemetry::Telemetry telemetry(config.log, config.output_dir, world->rank() == 0);
  telemetry.set_machine(machine_of(model, *world));
  const telemetry::Tracer tracer({.path = config.log.trace,
                                  .after = config.log.trace_after,
                                  .steps = config.log.trace_steps,
                                  .rank = world->rank(),
                                  .device = device});
  Json done;
  with_memory_advice(config, model, [&] {
    Trainer trainer({.config = config,
                     .world = *world,
                     .model = model,
                     .train = datasets.train,
                     .eval = datasets.eval,
                     .folder = folder,
                     .telemetry = telemetry,
                     .base_model = base_identity(config, model)});
    folder.require_free_space(2 * trainer.checkpoint_bytes());
    trainer.run();
    done = summary(config, trainer);
  });
  telemetry.finish();
  if (world->rank() == 0 && !config.export_.formats.empty())
    run_export({.source = config.output_dir,
                .formats = config.export_.formats,
                .output_dir = config.export_.output_dir,
                .overwrite = true});
  if (world->rank() == 0 && options.json) fmt::print("{}\n", done.dump());
  world->barrier("end of the run");
}

}  // namespace weft::recipes
