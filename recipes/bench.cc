#include "recipes/bench.h"

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/threads.h"
#include "core/telemetry/peak_flops.h"
#include "core/tensor/device_timer.h"
#include "recipes/bench_report.h"

namespace weft::recipes {
namespace {

// "tests/bench/shapes/1b.json" is 1b, "models/SmolLM2" is SmolLM2.
std::string name_of_model(const ModelSection& model) {
  const std::filesystem::path path(model.path.empty() ? model.config : model.path);
  const std::string stem = path.stem().string();
  return stem == "config" || stem.empty() ? path.parent_path().filename().string() : stem;
}

std::string name_of_case(const RunConfig& config, const StepShape& shape, int ranks) {
  const int64_t layers = config.train.recompute_layers;
  const size_t offloaded = shape.recompute.offloaded;
  const std::string blocks = (layers > 0 ? fmt::format(" of {} blocks", layers) : "") +
                             (offloaded > 0 ? fmt::format(" offload of {} blocks", offloaded) : "");
  return fmt::format("{} {} seq {} micro-batch {} recompute {}{} {} x{}",
                     name_of_model(config.model), enum_name(config.recipe, kRecipeNames),
                     shape.seq_len, shape.rows, enum_name(config.train.recompute, kRecomputeNames),
                     blocks, weft::name_of(shape.dtype), ranks);
}

void check(const RunConfig& config) {
  if (config.model.path.empty() == config.model.config.empty())
    fail(ErrorKind::usage,
         "weft bench: give one of model.path (a model with weights) and model.config (a "
         "config.json: random weights)");
  config.lora.check();
  config.parallel.check();
  config.train.check();
}

}  // namespace

RunConfig read_bench_config(std::vector<std::string> arguments) {
  const bool file = !arguments.empty() && arguments[0].find('=') == std::string::npos;
  const std::string path = file ? arguments[0] : "";
  if (file) arguments.erase(arguments.begin());
  constexpr int64_t kNotGiven = 0;
  RunConfig config;
  config.train.global_batch = kNotGiven;
  ConfigVisitor visitor = config_detail::visit(config);
  config_detail::read(visitor, path, arguments);
  const bool given = config.train.global_batch != kNotGiven;
  if (!given) config.train.global_batch = config.train.micro_batch;
  check(config);
  if (!given) config.train.global_batch = kNotGiven;
  return config;
}

void run_bench(const BenchOptions& options, const std::shared_ptr<parallel::Communicator>& world) {
  RunConfig config = options.config;
  if (config.train.global_batch == 0)
    config.train.global_batch = config.train.micro_batch * world->size();
  if (!options.step && !options.floor)
    fail(ErrorKind::usage, "weft bench: --no-step and --no-floor leave nothing to do");
  const StepBench bench = bench_step(config, world,
                                     {.local_rank = options.local_rank,
                                      .cache_folder = options.cache_folder,
                                      .warmup = options.warmup,
                                      .steps = options.step ? options.steps : 0});
  const StepShape& shape = bench.shape;
  BenchResult result{.name = name_of_case(config, shape, world->size()),
                     .device = shape.device.is_cpu() ? fmt::format("CPU, {} threads", num_threads())
                                                     : device_timer::gpu_name(shape.device.index),
                     .peak_flops = telemetry::peak_flops(shape.device, shape.dtype),
                     .shape = shape};
  if (options.step) result.step = bench.timing;
  release_cached_memory(shape.device);
  result.links = bench.links;
  world->barrier("bench");
  if (options.floor) {
    log::info("bench: measuring the pieces of a step");
    result.floor = measure_floor(shape);  // on every rank: they share power and memory
  }
  if (world->rank() == 0)
    fmt::print("{}{}", options.json ? to_json(result).dump() : to_text(result),
               options.json ? "\n" : "");
  world->barrier("end of the bench");
}

}  // namespace weft::recipes
