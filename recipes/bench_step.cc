#include "recipes/bench_step.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "checkpoint/file_system.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/rng.h"
#include "core/ops/matmul.h"
#include "core/telemetry/trace.h"
#include "core/tensor/device_memory.h"
#include "parallel/world.h"
#include "recipes/choose_device.h"
#include "recipes/product_algorithms.h"
#include "recipes/train.h"
#include "recipes/trainer.h"

namespace weft::recipes {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kWindows = 5;

// Documents of seq_len tokens, of which every one but the first is a target.
class RandomTokens : public data::Dataset {
 public:
  RandomTokens(int64_t count, int64_t length, int64_t vocab_size)
      : count_(count),
        length_(length),
        ids_(static_cast<size_t>(count * length)),
        trained_(static_cast<size_t>(length), 1) {
    for (size_t i = 0; i < ids_.size(); ++i)
      ids_[i] = static_cast<int32_t>(mix(1, i) % static_cast<uint64_t>(vocab_size));
  }
  int64_t size() const override { return count_; }
  data::ExampleView example(int64_t index) const override {
    const size_t length = static_cast<size_t>(length_);
    return {std::span(ids_).subspan(static_cast<size_t>(index) * length, length), trained_, -1, -1,
            mix(2, static_cast<uint64_t>(index))};
  }
  double weight(int64_t) const override { return 1; }
  std::string hash() const override { return "random"; }

 private:
  int64_t count_, length_;
  std::vector<int32_t> ids_;
  std::vector<uint8_t> trained_;
};

// A folder for a trainer that saves nothing.
struct ScratchFolder {
  ScratchFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "weft-bench-XXXXXX").string();
    if (!mkdtemp(pattern.data())) fail(ErrorKind::io, "{} cannot be made", pattern);
    path = pattern;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::string path;
};

// Since this process was started, by the kernel's clock.
double process_age() {
  std::ifstream in("/proc/self/stat");
  std::string text((std::istreambuf_iterator<char>(in)), {});
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(text.substr(name_end + 1));
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;  // 22: starttime, in ticks since boot
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  const double since_boot =
      static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  return since_boot -
         std::strtod(field.c_str(), nullptr) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

// The learning rate's course and the run's end do not matter here.
RunConfig for_steps(RunConfig config, const StepBenchOptions& options) {
  config.train.schedule = Schedule::constant;
  config.train.warmup = 0;
  config.train.warmup_ratio = 0;
  config.train.epochs = 0;
  config.train.max_steps = std::max<int64_t>(1, options.warmup + options.steps);
  config.train.eval_every = 0;
  config.log.progress = telemetry::Progress::none;
  return config;
}

void check_model(const RunConfig& config, const Model& model) {
  config.train.recompute_plan(model.config.num_hidden_layers);
  if (config.data.seq_len <= model.config.max_sequence()) return;
  fail(ErrorKind::usage, "data.seq_len is {}, but the model takes at most {} tokens",
       config.data.seq_len, model.config.max_sequence());
}

StepShape shape_of(const RunConfig& config, const Model& model, const ModelOptions& options,
                   int ranks) {
  StepShape shape{.model = model.config,
                  .rows = config.train.micro_batch,
                  .seq_len = config.data.seq_len,
                  .frozen_base = config.recipe == Recipe::lora,
                  .recompute = config.train.recompute_plan(model.config.num_hidden_layers),
                  .dtype = options.dtype,
                  .gradient_dtype = options.units.f32_gradients ? DType::f32 : options.dtype,
                  .deterministic = config.train.deterministic,
                  .device = model.device};
  shape.micro_batches = std::max<int64_t>(1, config.train.global_batch / (ranks * shape.rows));
  return shape;
}

// The states read and written, the gradients read for the norm and for the update, the values
// written (and read, where they are their own masters). A rank does this for its shard.
int64_t optimizer_traffic(const Model& model, const RunConfig& config, const StepShape& shape,
                          int ranks) {
  const bool masters =
      shape.dtype != DType::f32 && config.train.master_weights == MasterWeights::fp32;
  const auto held = [&](MemoryTag tag) {
    return static_cast<int64_t>(memory_use(tag, model.device).current);
  };
  const int64_t values =
      model.trainable_parameters() * static_cast<int64_t>(size_of(shape.dtype)) / ranks;
  const int64_t gradients = held(MemoryTag::gradient) / ranks;
  return 2 * held(MemoryTag::optimizer) + 2 * gradients + (masters ? 1 : 2) * values;
}

void run_windows(Trainer& trainer, Device device, int64_t steps, StepTiming& timing) {
  const int64_t windows = std::min(kWindows, steps);
  std::vector<double> seconds;
  for (int64_t w = 0; w < windows; ++w) {
    const int64_t count = steps / windows + (w < steps % windows ? 1 : 0);
    const Clock::time_point begin = Clock::now();
    trainer.run_steps(count);
    if (!device.is_cpu()) device_memory::synchronize(device.index);
    seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count() /
                      static_cast<double>(count));
  }
  std::sort(seconds.begin(), seconds.end());
  timing.seconds = seconds[seconds.size() / 2];
  timing.fastest = seconds.front();
  timing.slowest = seconds.back();
}

StepTiming time_steps(Trainer& trainer, Device device, const StepBenchOptions& options) {
  StepTiming timing;
  trainer.run_steps(1);
  if (!device.is_cpu()) device_memory::synchronize(device.index);
  timing.first_step_seconds = process_age();
  log::info("bench: first step {:.1f} s after the start", timing.first_step_seconds);
  if (options.warmup > 1) trainer.run_steps(options.warmup - 1);
  timing.peak_since_start = memory_use_total(device).peak;
  reset_memory_peaks(device);
  run_windows(trainer, device, options.steps, timing);
  for (int tag = 0; tag < static_cast<int>(MemoryTag::count_); ++tag)
    timing.peak_bytes.push_back(memory_use(static_cast<MemoryTag>(tag), device).peak);
  timing.peak_total = memory_use_total(device).peak;
  timing.peak_since_start = std::max(timing.peak_since_start, timing.peak_total);
  return timing;
}

}  // namespace

StepBench bench_step(const RunConfig& run, const std::shared_ptr<parallel::Communicator>& world,
                     const StepBenchOptions& options) {
  const ScratchFolder scratch;
  RunConfig config = for_steps(run, options);
  config.output_dir = scratch.path;
  const parallel::Mesh mesh(world, {.pipeline = static_cast<int>(config.parallel.pipeline),
                                    .data = static_cast<int>(config.parallel.data),
                                    .context = static_cast<int>(config.parallel.context),
                                    .tensor = static_cast<int>(config.parallel.tensor)});
  const Device device = choose_device(config.train.device, options.local_rank, *world);
  limit_memory(config.train.memory_limit.count, device);
  ModelOptions model_parts = model_options(config, mesh, device);
  model_parts.needs_tokenizer = false;
  Model model = load_model(model_parts);
  check_model(config, model);
  ops::allow_tf32(config.train.tf32);
  choose_product_algorithms(model, config, options.cache_folder, *world);
  const int ranks = mesh.data().size();
  StepBench bench{shape_of(config, model, model_parts, ranks), {}};
  const auto parallel_self = parallel::make_self();
  checkpoint::RunFolder folder(*parallel_self, checkpoint::local_file_system(), scratch.path);
  telemetry::Telemetry telemetry(config.log, "", /*writes=*/false);
  const telemetry::Tracer tracer({.path = config.log.trace,
                                  .after = config.log.trace_after,
                                  .steps = config.log.trace_steps,
                                  .rank = world->rank(),
                                  .device = device});
  Trainer trainer({.config = config,
                   .world = *world,
                   .model = model,
                   .train = std::make_shared<RandomTokens>(
                       4 * config.train.global_batch, config.data.seq_len, model.config.vocab_size),
                   .eval = nullptr,
                   .folder = folder,
                   .telemetry = telemetry,
                   .base_model = {}});
  bench.shape.optimizer_bytes = optimizer_traffic(model, config, bench.shape, ranks);
  if (options.steps > 0) bench.timing = time_steps(trainer, device, options);
  bench.links = measure_links(*model.units->communicator(), device, bench.shape.gradient_dtype);
  return bench;
}

}  // namespace weft::recipes
