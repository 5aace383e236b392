#include "recipes/model.h"

#include <filesystem>
#include <set>

#include "checkpoint/run_folder.h"
#include "core/base/cpu_features.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "core/nn/init.h"
#include "core/nn/lora.h"
#include "parallel/world.h"
#include "recipes/run_config.h"

namespace weft::recipes {
namespace {

bool is_adapter(const std::string& name) {
  return name.find(".lora_") != std::string::npos;
}

checkpoint::ModelFiles files_of(const ModelOptions& options) {
  checkpoint::ModelFiles files;
  if (options.path.empty()) {
    files.config = Json::parse_file(options.config_path);
  } else {
    files = checkpoint::open_model(options.path);
  }
  if (!options.tokenizer.empty()) checkpoint::use_tokenizer(files, options.tokenizer);
  return files;
}

void adapt(Model& model, const ModelOptions& options,
           const std::optional<checkpoint::PeftAdapter>& adapter) {
  models::Decoder& decoder = *model.decoder;
  if (adapter) {
    const checkpoint::PeftConfig& peft = adapter->config;
    const std::set<std::string> modules(adapter->modules.begin(), adapter->modules.end());
    const int64_t count = nn::apply_adapters(
        decoder.projections(), decoder.parameters(),
        [&](const std::string& module) -> std::optional<nn::AdapterSpec> {
          if (!modules.count(module)) return std::nullopt;
          return nn::AdapterSpec{peft.rank_of(module), peft.scale_of(module), peft.use_dora};
        });
    if (count != static_cast<int64_t>(modules.size()))
      fail(ErrorKind::bad_data, "{}: the adapter has {} modules, of which this model has {}",
           options.adapter, modules.size(), count);
    for (nn::Projection* projection : decoder.projections()) projection->dropout = peft.dropout;
    model.peft = peft;
  } else if (options.lora) {
    nn::apply_lora(decoder.projections(), decoder.parameters(), *options.lora);
    model.peft = checkpoint::PeftConfig{.base_model = options.path,
                                        .rank = options.lora->rank,
                                        .alpha = options.lora->alpha,
                                        .dropout = options.lora->dropout,
                                        .use_rslora = options.lora->rslora,
                                        .use_dora = options.lora->dora,
                                        .targets = {},
                                        .rank_pattern = {},
                                        .alpha_pattern = {}};
  }
}

void check_base(const Model& model) {
  std::vector<checkpoint::ExpectedWeight> expected;
  for (const nn::ParameterPtr& p : model.decoder->parameters())
    if (!is_adapter(p->name)) expected.push_back({p->name, p->shape});
  checkpoint::check_shapes(*model.files.weights, expected);
}

void fill(Model& model, const ModelOptions& options, const checkpoint::WeightSource* adapter) {
  std::vector<nn::ParameterPtr> computed;
  for (const nn::ParameterPtr& p : model.decoder->parameters()) {
    const checkpoint::WeightSource* source =
        is_adapter(p->name) ? adapter : model.files.weights.get();
    if (source && source->contains(p->name)) {
      source->read(p->name, 0, p->value);
    } else if (p->init_from_loaded) {
      computed.push_back(p);
    } else {
      nn::initialize(*p, options.seed);
    }
  }
  for (const nn::ParameterPtr& p : computed) p->init_from_loaded(*p);
}

std::string step_folder(const std::string& run, const std::string& step) {
  if (step.empty() || step == "last") return run;
  const std::string name = step == "best" ? checkpoint::best_step_name(run)
                                          : checkpoint::folder_name_of_step(std::stoll(step));
  const std::string folder = run + "/" + name;
  if (!std::filesystem::is_directory(folder))
    fail(ErrorKind::no_input, "{}: there is no checkpoint {}", run, name);
  return folder;
}

void read_values(Model& model, const checkpoint::NativeCheckpoint& saved) {
  for (const nn::ParameterPtr& p : model.decoder->parameters()) {
    const checkpoint::TensorInfo* info = saved.find("value", p->name);
    if (!info) continue;
    if (info->dtype == p->dtype) {
      saved.read_range("value", p->name, p->shape, 0, p->value);
    } else {
      ops::cast(saved.read("value", p->name), p->value);
    }
  }
}

}  // namespace

models::UnitHooks Model::hooks() const {
  parallel::Units* u = units.get();
  return {.gather = [u](size_t unit) { u->gather(static_cast<int>(unit)); },
          .release = [u](size_t unit) { u->release(static_cast<int>(unit)); },
          .reduce = [u](size_t unit) { u->reduce(static_cast<int>(unit)); }};
}

text::SpecialIds Model::special_ids() const {
  return text::special_ids(*files.tokenizer, files.tokenizer_config);
}

int64_t Model::trainable_parameters() const {
  int64_t count = 0;
  for (const nn::ParameterPtr& p : decoder->parameters())
    if (p->trainable) count += p->shape.numel();
  return count;
}

int64_t Model::total_parameters() const {
  int64_t count = 0;
  for (const nn::ParameterPtr& p : decoder->parameters()) count += p->shape.numel();
  return count;
}

Model load_model(const ModelOptions& options) {
  Model model;
  model.path = options.path;
  model.files = files_of(options);
  model.config = models::parse_decoder_config(
      model.files.config, options.path.empty() ? options.config_path : options.path);
  model.decoder = std::make_unique<models::Decoder>(model.config, options.dtype);
  std::optional<checkpoint::PeftAdapter> adapter;
  if (!options.adapter.empty()) adapter = checkpoint::open_peft(options.adapter);
  adapt(model, options, adapter);
  if (model.files.weights) check_base(model);
  model.units = std::make_unique<parallel::Units>(
      model.decoder->units(), options.data ? options.data : parallel::make_self());
  model.units->materialize(options.units);
  fill(model, options, adapter ? adapter->weights.get() : nullptr);
  return model;
}

Model load_for_inference(const std::string& path, const std::string& adapter, Precision precision,
                         const std::string& step) {
  ModelOptions options{.path = path, .adapter = adapter, .dtype = dtype_of(precision)};
  options.units.gradients = false;
  const std::optional<Json> saved_config = run_config_of(path);
  if (!saved_config) return load_model(options);
  const auto saved =
      checkpoint::open_latest(checkpoint::local_file_system(), step_folder(path, step));
  const auto config = config_from_json<RunConfig>(saved->manifest().config, saved->folder());
  options.path = config.model.path;
  options.config_path = config.model.config;
  options.tokenizer = config.model.tokenizer;
  if (options.adapter.empty()) options.adapter = config.model.adapter;
  if (config.recipe == Recipe::lora && options.adapter.empty()) options.lora = &config.lora;
  Model model = load_model(options);
  read_values(model, *saved);
  return model;
}

std::optional<Json> run_config_of(const std::string& path) {
  namespace fs = std::filesystem;
  if (!fs::is_directory(path) || fs::exists(path + "/config.json")) return std::nullopt;
  return checkpoint::open_latest(checkpoint::local_file_system(), path)->manifest().config;
}

DType dtype_of(Precision precision) {
  if (precision == Precision::automatic) return cpu_has_native_bf16() ? DType::bf16 : DType::f32;
  return precision == Precision::bf16 ? DType::bf16 : DType::f32;
}

}  // namespace weft::recipes
