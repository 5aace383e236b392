#include "recipes/inspect.h"

#include <fmt/format.h>

#include <filesystem>

#include "checkpoint/model_files.h"
#include "checkpoint/run_folder.h"
#include "core/base/error.h"
#include "core/data/hdf5_dataset.h"
#include "core/models/decoder_config.h"

namespace weft::recipes {
namespace {

namespace fs = std::filesystem;

Json inspect_model(const InspectOptions& options) {
  const checkpoint::ModelFiles files = checkpoint::open_model(options.path);
  const models::DecoderConfig config =
      models::parse_decoder_config(files.description.config, options.path);
  Json json;
  json.set("kind", options.path.ends_with(".gguf") ? "gguf" : "model folder");
  json.set("config", files.description.config);
  json.set("parameters", config.block_parameters() + (config.tie_word_embeddings ? 1 : 2) *
                                                         config.vocab_size * config.hidden_size);
  json.set("tokenizer_hash",
           files.description.tokenizer ? Json(files.description.tokenizer->hash()) : Json());
  json.set("chat_template", !files.description.tokenizer_config.chat_template.empty());
  json.set("num_tensors", files.weights->weights().size());
  if (!options.tensors) return json;
  Json::Array tensors;
  for (const checkpoint::WeightInfo& info : files.weights->weights()) {
    Json tensor;
    tensor.set("name", info.name);
    tensor.set("shape", info.shape.to_string());
    tensor.set("stored_as", info.stored_as);
    tensors.push_back(tensor);
  }
  json.set("tensors", tensors);
  return json;
}

Json inspect_checkpoint(const InspectOptions& options) {
  const auto saved = checkpoint::open_latest(checkpoint::local_file_system(), options.path);
  Json json = saved->describe();
  if (options.verify) {
    Json::Array faults;
    for (const std::string& fault : saved->verify()) faults.push_back(fault);
    if (!faults.empty())
      fail(ErrorKind::bad_data, "{} is damaged:\n{}", saved->folder(), Json(faults).dump(2));
    json.set("verified", true);
  }
  return json;
}

Json inspect_dataset(const InspectOptions& options) {
  const data::Hdf5DatasetInfo info = data::read_hdf5_info(options.path);
  Json json;
  json.set("kind", "dataset");
  json.set("documents", info.documents);
  json.set("tokens", info.tokens);
  json.set("tokenizer_hash", info.tokenizer_hash);
  json.set("vocab_size", info.vocab_size);
  json.set("weft_version", info.weft_version);
  return json;
}

// One line a member; nested values as JSON.
void print(const Json& json) {
  for (const auto& [key, value] : json.as_object()) {
    if (value.is_array()) {
      fmt::print("{}:\n", key);
      for (const Json& element : value.as_array()) fmt::print("  {}\n", element.dump());
    } else if (value.is_object()) {
      fmt::print("{}:\n", key);
      for (const auto& [name, member] : value.as_object())
        fmt::print("  {}: {}\n", name, member.dump());
    } else {
      fmt::print("{}: {}\n", key, value.is_string() ? value.as_string() : value.dump());
    }
  }
}

}  // namespace

void run_inspect(const InspectOptions& options) {
  if (!fs::exists(options.path))
    fail(ErrorKind::no_input, "{}: there is no such file or folder", options.path);
  const bool model = options.path.ends_with(".gguf") || fs::exists(options.path + "/config.json");
  const bool dataset = options.path.ends_with(".h5");
  const Json json = model     ? inspect_model(options)
                    : dataset ? inspect_dataset(options)
                              : inspect_checkpoint(options);
  if (options.json) {
    fmt::print("{}\n", json.dump());
  } else {
    print(json);
  }
}

}  // namespace weft::recipes
