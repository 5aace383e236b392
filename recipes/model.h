// A model in memory with all that belongs to it: what every recipe starts from.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "checkpoint/model_files.h"
#include "checkpoint/native_checkpoint.h"
#include "checkpoint/peft.h"
#include "core/models/decoder.h"
#include "core/nn/lora_config.h"
#include "parallel/units.h"
#include "recipes/train_config.h"

namespace weft::recipes {

struct Model {
  std::string path;  // of the base: a Hugging Face folder or a .gguf file
  checkpoint::ModelDescription description;
  std::unique_ptr<checkpoint::WeightSource> weights;  // of the base; null: it started at random
  std::optional<checkpoint::PeftConfig> peft;         // adapters that it carries
  models::DecoderConfig config;
  Device device;  // of its parameters and its work
  std::unique_ptr<models::Decoder> decoder;
  std::unique_ptr<parallel::Units> units;

  // A trained parameter's elements [begin, begin + out.numel()) as its file has them; out f32 on
  // the CPU. False: there is no file, or it holds no more than the parameter's dtype does.
  std::function<bool(const std::string& name, int64_t begin, const Tensor& out)> unrounded;

  models::UnitHooks hooks() const;  // gather, release and reduce of `units`
  text::SpecialIds special_ids() const;
  int64_t trainable_parameters() const;
  int64_t total_parameters() const;
};

struct ModelOptions {
  std::string path;         // the base's files; empty: `config_path` and random weights
  std::string config_path;  // config.json of a model that starts from random weights
  std::string tokenizer;    // folder, .gguf or tokenizer.json; empty: the model's own
  bool needs_tokenizer = true;
  std::string adapter;                   // PEFT folder; empty: none
  const nn::LoraConfig* lora = nullptr;  // give it fresh adapters (excludes `adapter`)
  DType dtype = DType::f32;
  uint64_t seed = 0;  // of random values
  parallel::UnitsOptions units;
  std::shared_ptr<parallel::Communicator> data;  // the data-parallel group; null: alone
};

// Builds the blueprint, runs the passes, takes memory and fills it: from the files, then from the
// adapter, the rest by each parameter's initial value. Shapes are checked before memory is taken.
Model load_model(const ModelOptions& options);

// A model to evaluate, generate with or export, from whatever the path is: a model folder, a .gguf,
// a run folder or one of its checkpoints (its trained values over its base). No gradients. `step`:
// "" or "last", "best", or a number; of run folders only.
struct InferenceOptions {
  std::string path;
  std::string adapter;  // PEFT folder; empty: none
  Precision dtype = Precision::automatic;
  Device device;
  std::string step;
};
Model load_for_inference(const InferenceOptions& options);
// The resolved config of the run that `path` is a part of; nullopt for plain model files.
std::optional<Json> run_config_of(const std::string& path);

// automatic: bf16 where the device multiplies it natively, else f16 on a GPU, with a word about it,
// and f32 on a CPU. Throws usage where the device does not compute what is asked for.
DType dtype_of(Precision precision, Device device = {});
DType dtype_on(DeviceKind kind, bool has_bf16, Precision precision);
// Of a process that works alone. automatic: the first GPU, where the build has GPU code and there
// is one, else the CPU. cuda without one throws unavailable and says what is missing.
Device device_of(DeviceChoice choice);

// Calls write(host tensor) and brings what it wrote to `destination`, wherever that is.
void fill_through_host(const Tensor& destination, const std::function<void(const Tensor&)>& write);

// Fingerprint of the base's weights (32 hex digits): its names, shapes and bytes.
std::string weights_hash(const checkpoint::WeightSource& weights);

}  // namespace weft::recipes
