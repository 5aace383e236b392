#include "recipes/product_algorithms.h"

#include <cctype>
#include <chrono>
#include <filesystem>
#include <random>

#include "checkpoint/file_system.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "core/nn/weight_grads.h"
#include "core/ops/elementwise.h"
#include "recipes/batch_step.h"

namespace weft::recipes {
namespace {

constexpr size_t kMostBytes = size_t{16} << 20;  // of a file

// Rows of full length, each one document whose tokens are all trained on.
data::Batch full_batch(int64_t rows, int64_t seq_len, int64_t vocab_size) {
  const int64_t tokens = rows * seq_len;
  data::Batch batch;
  batch.ids = Tensor::empty({tokens}, DType::i32);
  batch.positions = Tensor::empty({tokens}, DType::i32);
  batch.labels = Tensor::empty({tokens}, DType::i32);
  batch.sample_ids = Tensor::empty({tokens}, DType::i64);
  const auto id = [&](int64_t t) { return static_cast<int32_t>(t * 7919 % vocab_size); };
  for (int64_t t = 0; t < tokens; ++t) {
    batch.ids.data<int32_t>()[t] = id(t);
    batch.positions.data<int32_t>()[t] = static_cast<int32_t>(t % seq_len);
    batch.labels.data<int32_t>()[t] = id(t + 1);
    batch.sample_ids.data<int64_t>()[t] = t / seq_len;
  }
  for (int64_t row = 0; row < rows; ++row)
    batch.documents.push_back(
        {.q_begin = row * seq_len, .q_len = seq_len, .kv_begin = row * seq_len, .kv_len = seq_len});
  batch.trained_tokens = tokens;
  return batch;
}

// Forward and backward of a step's first micro-batch and, where there are more, of another, which
// adds to its gradients. Nobody reduces their sums.
void warm_up(const Model& model, const RunConfig& config) {
  const data::Batch batch =
      full_batch(config.train.micro_batch, config.data.seq_len, model.config.vocab_size);
  nn::WeightGrads weight_grads;
  nn::Step step = make_step(batch, nn::Mode::train, model);
  step.loss_scale = Tensor::empty({1}, DType::f32, model.device);
  ops::fill(step.loss_scale, 1.0f / static_cast<float>(batch.tokens()));
  step.loss_sum = Tensor::zeros({1}, DType::f64, model.device);
  step.seed = static_cast<uint64_t>(config.train.seed);
  step.weight_grads = &weight_grads;
  models::UnitHooks hooks = model.hooks();
  hooks.reduce = [](size_t) {};
  // Recomputing every layer where the run recomputes some has the same products, and no more memory
  // than offloading some.
  const models::Recompute recompute =
      config.train.offload_layers > 0 ? models::Recompute::full : config.train.recompute;
  const int64_t at_once = config.train.micro_batch * model.units->communicator()->size();
  model.units->zero_gradients();
  for (int i = 0; i < (config.train.global_batch > at_once ? 2 : 1); ++i)
    model.decoder->train(step, recompute, hooks, /*last_micro_batch=*/false);
}

// The known algorithms that the run's micro-batches take, and those that had to be timed.
ops::ProductTable time_products(const Model& model, const RunConfig& config,
                                ops::ProductTable known) {
  const auto begin = std::chrono::steady_clock::now();
  ops::TimeProducts timing(std::move(known));
  try {
    warm_up(model, config);
  } catch (const OutOfMemory&) {
    throw;  // no step would have enough either
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::unavailable) throw;
    log::warn("the warm-up that times products stopped early: {}", error.what());
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  if (timing.timed() > 0)
    log::info("timed the algorithms of {} products in {:.1f} s", timing.timed(), seconds.count());
  return timing.met();
}

std::string cache_path(const RunConfig& config, const std::string& default_cache,
                       const ops::ProductLibrary& library) {
  const std::string& named = config.train.algorithm_cache;
  const std::string& folder = named.empty() ? default_cache : named;
  return folder.empty() ? "" : checkpoint::join(folder, product_cache_name(library));
}

// The cache may be shared, read-only or on a full disk: the run does not depend on it.
void add_to_cache(const std::string& path, const ops::ProductLibrary& library,
                  ops::ProductTable cached, const ops::ProductTable& table) {
  const size_t before = cached.size();
  cached.insert(table.begin(), table.end());
  if (path.empty() || cached.size() == before) return;
  try {
    write_product_file(path, library, cached);
  } catch (const Error& error) {
    log::warn("the next run will time its products again: {}", error.what());
  }
}

std::string choose(const Model& model, const RunConfig& config, const std::string& default_cache) {
  const ops::ProductLibrary library = ops::product_library(model.device);
  const std::string run_path = checkpoint::join(config.output_dir, kProductFile);
  const std::string in_cache = cache_path(config, default_cache, library);
  ops::ProductTable of_run = read_product_file(run_path, library);
  const ops::ProductTable cached =
      in_cache.empty() ? ops::ProductTable() : read_product_file(in_cache, library);
  ops::ProductTable known = of_run;
  known.insert(cached.begin(), cached.end());
  const size_t before = of_run.size();
  // The run keeps what it has: later steps may need what this warm-up does not.
  of_run.merge(time_products(model, config, std::move(known)));
  if (of_run.size() != before) write_product_file(run_path, library, of_run);
  add_to_cache(in_cache, library, cached, of_run);
  return to_text(library, of_run);
}

}  // namespace

void choose_product_algorithms(const Model& model, const RunConfig& config,
                               const std::string& default_cache, parallel::Communicator& world) {
  if (model.device.is_cpu() || config.train.algorithm_cache == "none") return;
  std::string text;
  if (world.rank() == 0) text = choose(model, config, default_cache);
  text = world.broadcast_bytes(text, /*root=*/0, "product algorithms");
  ops::use_product_table(ops::parse_product_text(text, "the table of rank 0").table);
  release_cached_memory(model.device);  // of scratch that no step needs
  reset_memory_peaks(model.device);
}

std::string product_cache_name(const ops::ProductLibrary& library) {
  std::string name = fmt::format("products-{}-{}", library.gpu, library.library);
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '-';
  return name + ".txt";
}

ops::ProductTable read_product_file(const std::string& path, const ops::ProductLibrary& library) {
  checkpoint::FileSystem& files = checkpoint::local_file_system();
  try {
    if (!files.exists(path)) return {};
    ops::ProductText text =
        ops::parse_product_text(checkpoint::read_text(files, path, kMostBytes), path);
    if (text.library == library) return std::move(text.table);
    log::info("{} was measured with {} on {}; with {} on {} products are timed anew", path,
              text.library.library, text.library.gpu, library.library, library.gpu);
  } catch (const Error& error) {
    log::warn("products are timed anew, for {} cannot be used: {}", path, error.what());
  }
  return {};
}

void write_product_file(const std::string& path, const ops::ProductLibrary& library,
                        const ops::ProductTable& table) {
  checkpoint::FileSystem& files = checkpoint::local_file_system();
  files.make_folder(std::filesystem::path(path).parent_path().string());
  // A name of its own: another run may be at the same cache.
  const std::string own = fmt::format("{}.{:08x}", path, std::random_device()());
  checkpoint::replace_text(files, own, to_text(library, table));
  files.rename(own, path);
}

}  // namespace weft::recipes
