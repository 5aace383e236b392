#include "recipes/model.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <set>

#include "checkpoint/run_folder.h"
#include "core/base/cpu_features.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "core/nn/init.h"
#include "core/nn/lora.h"
#include "core/ops/elementwise.h"
#include "core/tensor/device_memory.h"
#include "parallel/world.h"
#include "recipes/run_config.h"
#include "recipes/train_state.h"

namespace weft::recipes {
namespace {

bool is_adapter(const std::string& name) {
  return name.find(".lora_") != std::string::npos;
}

// The tokenizer of another place: a model folder, a .gguf file, or a tokenizer.json.
void use_tokenizer(checkpoint::ModelDescription& model, const std::string& path) {
  if (std::filesystem::is_regular_file(path) && path.ends_with(".json")) {
    const std::string folder = std::filesystem::path(path).parent_path().string();
    model.tokenizer = text::Tokenizer::from_file(path);
    model.tokenizer_config = text::TokenizerConfig::from_folder(folder.empty() ? "." : folder);
    model.tokenizer_config_json = Json();
    return;
  }
  checkpoint::ModelDescription other = checkpoint::open_description(path);
  model.tokenizer = other.tokenizer;
  model.tokenizer_config = other.tokenizer_config;
  model.tokenizer_config_json = other.tokenizer_config_json;
}

void open_files(Model& model, const ModelOptions& options) {
  if (options.path.empty()) {
    model.description.where = options.config_path;
    model.description.config = Json::parse_file(options.config_path);
  } else {
    checkpoint::ModelFiles files = checkpoint::open_model(options.path);
    model.description = std::move(files.description);
    model.weights = std::move(files.weights);
  }
  if (!options.tokenizer.empty()) use_tokenizer(model.description, options.tokenizer);
  if (options.needs_tokenizer && !model.description.tokenizer)
    fail(ErrorKind::usage, "{} has no tokenizer: name one (model.tokenizer)",
         model.description.where);
}

// The last parts of the names of the modules that have an adapter.
std::vector<std::string> adapted_modules(models::Decoder& decoder) {
  std::vector<std::string> modules;
  for (const nn::Projection* projection : decoder.projections())
    for (const nn::ProjectionMember& member : projection->members()) {
      const std::string last = member.name.substr(member.name.rfind('.') + 1);
      if (member.adapter && std::find(modules.begin(), modules.end(), last) == modules.end())
        modules.push_back(last);
    }
  return modules;
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
                                        .targets = adapted_modules(decoder),
                                        .rank_pattern = {},
                                        .alpha_pattern = {}};
  }
}

void check_base(const Model& model) {
  std::vector<checkpoint::ExpectedWeight> expected;
  for (const nn::ParameterPtr& p : model.decoder->parameters())
    if (!is_adapter(p->name)) expected.push_back({p->name, p->shape});
  checkpoint::check_shapes(*model.weights, expected);
}

void fill(Model& model, const ModelOptions& options, const checkpoint::WeightSource* adapter) {
  std::vector<nn::ParameterPtr> computed;
  for (const nn::ParameterPtr& p : model.decoder->parameters()) {
    const checkpoint::WeightSource* source = is_adapter(p->name) ? adapter : model.weights.get();
    if (source && source->contains(p->name)) {
      fill_through_host(p->value, [&](const Tensor& host) { source->read(p->name, 0, host); });
    } else if (p->init_from_loaded) {
      computed.push_back(p);
    } else {
      nn::initialize(*p, options.seed);
    }
  }
  for (const nn::ParameterPtr& p : computed) p->init_from_loaded(*p);
}

int64_t best_step(const std::string& run) {
  const auto last = checkpoint::open_latest(checkpoint::local_file_system(), run);
  const int64_t step = TrainState::from_json(last->manifest().trainer).best_step;
  if (step < 0)
    fail(ErrorKind::no_input, "{}: no held-out evaluation says which step is best", run);
  return step;
}

int64_t parse_step(const std::string& text) {
  int64_t step = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), step);
  if (error != std::errc() || end != text.data() + text.size() || step < 0)
    fail(ErrorKind::usage, "--step {}: give last, best or a number", text);
  return step;
}

std::string step_folder(const std::string& run, const std::string& step) {
  if (step.empty() || step == "last") return run;
  const int64_t number = step == "best" ? best_step(run) : parse_step(step);
  const std::string name = checkpoint::folder_name_of_step(number);
  const std::string folder = run + "/" + name;
  if (!std::filesystem::is_directory(folder))
    fail(ErrorKind::no_input, "{}: there is no checkpoint {}", run, name);
  return folder;
}

DType trained_dtype(const checkpoint::NativeCheckpoint& saved) {
  for (const checkpoint::TensorInfo& info : saved.tensors())
    if (info.kind == "value") return info.dtype;
  fail(ErrorKind::bad_data, "{} holds no parameters", saved.folder());
}

// automatic: what it was trained in, or what a GPU has instead of bf16.
DType dtype_of_run(const checkpoint::NativeCheckpoint& saved, const InferenceOptions& wanted) {
  if (wanted.dtype != Precision::automatic) return dtype_of(wanted.dtype, wanted.device);
  const DType trained = trained_dtype(saved);
  const bool may_lack = trained == DType::bf16 && !wanted.device.is_cpu();
  return may_lack ? dtype_of(Precision::automatic, wanted.device) : trained;
}

void read_values(Model& model, const checkpoint::NativeCheckpoint& saved) {
  for (const nn::ParameterPtr& p : model.decoder->parameters()) {
    const checkpoint::TensorInfo* info = saved.find("value", p->name);
    if (!info) continue;
    fill_through_host(p->value, [&](const Tensor& host) {
      if (info->dtype == p->dtype)
        saved.read_range("value", p->name, p->shape, 0, host);
      else
        ops::cast(saved.read("value", p->name), host);
    });
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
  return text::special_ids(*description.tokenizer, description.tokenizer_config);
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

// What a parameter was read from, where that is more than what it holds.
std::function<bool(const std::string&, int64_t, const Tensor&)> unrounded_of(
    const checkpoint::WeightSource* base, std::shared_ptr<const checkpoint::WeightSource> adapter) {
  return [base, adapter](const std::string& name, int64_t begin, const Tensor& out) {
    const checkpoint::WeightSource* source = is_adapter(name) ? adapter.get() : base;
    if (!source || !source->contains(name) || source->info(name).dtype != DType::f32) return false;
    source->read(name, begin, out);
    return true;
  };
}

Model load_model(const ModelOptions& options) {
  Model model;
  model.path = options.path;
  model.device = options.units.device;
  open_files(model, options);
  model.config = models::parse_decoder_config(model.description.config, model.description.where);
  model.decoder = std::make_unique<models::Decoder>(model.config, options.dtype);
  std::optional<checkpoint::PeftAdapter> adapter;
  if (!options.adapter.empty()) adapter = checkpoint::open_peft(options.adapter);
  adapt(model, options, adapter);
  if (model.weights) check_base(model);
  model.units = std::make_unique<parallel::Units>(
      model.decoder->units(), options.data ? options.data : parallel::make_self());
  model.units->materialize(options.units);
  fill(model, options, adapter ? adapter->weights.get() : nullptr);
  model.unrounded = unrounded_of(
      model.weights.get(),
      adapter ? std::shared_ptr<checkpoint::WeightSource>(std::move(adapter->weights)) : nullptr);
  return model;
}

Model load_for_inference(const InferenceOptions& wanted) {
  const std::string& path = wanted.path;
  ModelOptions options{.path = path, .adapter = wanted.adapter};
  options.units.gradients = false;
  options.units.device = wanted.device;
  const std::optional<Json> saved_config = run_config_of(path);
  if (!saved_config) {
    options.dtype = dtype_of(wanted.dtype, wanted.device);
    return load_model(options);
  }
  const auto saved =
      checkpoint::open_latest(checkpoint::local_file_system(), step_folder(path, wanted.step));
  const auto config = config_from_json<RunConfig>(saved->manifest().config, saved->folder());
  options.path = config.model.path;
  options.config_path = config.model.config;
  options.tokenizer = config.model.tokenizer;
  if (options.adapter.empty()) options.adapter = config.model.adapter;
  if (config.recipe == Recipe::lora && options.adapter.empty()) options.lora = &config.lora;
  options.dtype = dtype_of_run(*saved, wanted);
  Model model = load_model(options);
  read_values(model, *saved);
  return model;
}

std::optional<Json> run_config_of(const std::string& path) {
  namespace fs = std::filesystem;
  if (!fs::is_directory(path) || fs::exists(path + "/config.json")) return std::nullopt;
  return checkpoint::open_latest(checkpoint::local_file_system(), path)->manifest().config;
}

Device device_of(DeviceChoice choice) {
  const int gpus = device_memory::count();
  if (choice == DeviceChoice::cpu || (choice == DeviceChoice::automatic && gpus == 0)) return {};
  if (gpus == 0)
    fail(ErrorKind::unavailable, "no GPU can be used: {}; the device `cpu` is always there",
         device_memory::why_none());
  return {DeviceKind::cuda, 0};
}

void fill_through_host(const Tensor& destination, const std::function<void(const Tensor&)>& write) {
  if (destination.device().is_cpu()) return write(destination);
  const Tensor host = Tensor::empty(destination.shape(), destination.dtype());
  write(host);
  destination.copy_from(host);
}

DType dtype_of(Precision precision, Device device) {
  const bool on_gpu = !device.is_cpu();
  return dtype_on(device.kind,
                  on_gpu ? device_memory::has_bf16(device.index) : cpu_has_native_bf16(),
                  precision);
}

DType dtype_on(DeviceKind kind, bool has_bf16, Precision precision) {
  const bool on_gpu = kind == DeviceKind::cuda;
  if (precision == Precision::fp32) return DType::f32;
  if (precision == Precision::fp16 && !on_gpu)
    fail(ErrorKind::usage, "fp16 is computed on GPUs only: use bf16 or fp32 on a CPU");
  if (precision == Precision::fp16) return DType::f16;
  if (precision == Precision::bf16 && on_gpu && !has_bf16)
    fail(ErrorKind::usage,
         "this GPU does not multiply bf16 (compute capability 8.0 and newer do): use fp16, fp32 or "
         "auto");
  if (precision == Precision::bf16 || has_bf16) return DType::bf16;
  if (!on_gpu) return DType::f32;
  log::info("this GPU does not multiply bf16 (compute capability 8.0 and newer do): fp16 it is");
  return DType::f16;
}

}  // namespace weft::recipes
