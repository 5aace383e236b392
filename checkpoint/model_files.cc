#include "checkpoint/model_files.h"

#include <filesystem>

#include "checkpoint/gguf_config.h"
#include "checkpoint/gguf_tokenizer_keys.h"
#include "checkpoint/gguf_weights.h"
#include "checkpoint/safetensors.h"
#include "core/base/error.h"

namespace weft::checkpoint {
namespace {

namespace fs = std::filesystem;

Json parse_object(const fs::path& path) {
  Json json = Json::parse_file(path.string());
  if (!json.is_object()) fail(ErrorKind::bad_data, "{}: is not a JSON object", path.string());
  return json;
}

Json parse_if_there(const fs::path& path) {
  return fs::exists(path) ? parse_object(path) : Json();
}

void check_model_folder(const fs::path& folder) {
  if (fs::exists(folder / "config.json")) return;
  if (fs::exists(folder / "adapter_config.json"))
    fail(ErrorKind::no_input,
         "{}: is a PEFT adapter, not a model; name its base as the model and this as the adapter",
         folder.string());
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".gguf")
      fail(ErrorKind::no_input, "{}: has no config.json; did you mean {}?", folder.string(),
           entry.path().string());
  fail(ErrorKind::no_input,
       "{}: has no config.json; a model is a Hugging Face folder or a .gguf "
       "file",
       folder.string());
}

ModelDescription describe_folder(const fs::path& folder) {
  check_model_folder(folder);
  ModelDescription out;
  out.where = folder.string();
  out.config = parse_object(folder / "config.json");
  out.generation_config = parse_if_there(folder / "generation_config.json");
  out.tokenizer_config_json = parse_if_there(folder / "tokenizer_config.json");
  out.tokenizer_config = text::TokenizerConfig::from_folder(folder.string());
  const fs::path tokenizer = folder / "tokenizer.json";
  if (fs::exists(tokenizer)) {
    out.tokenizer = text::Tokenizer::from_file(tokenizer.string());
  } else if (fs::exists(folder / "tokenizer.model")) {
    fail(ErrorKind::no_input,
         "{}: has tokenizer.model but no tokenizer.json; save it once with transformers' fast "
         "tokenizer",
         folder.string());
  }
  return out;
}

void check_file(const std::string& path) {
  if (!fs::exists(path)) fail(ErrorKind::no_input, "{}: is not there", path);
  if (fs::path(path).extension() == ".safetensors")
    fail(ErrorKind::no_input, "{}: weights alone are not a model; name the folder with config.json",
         path);
}

Json generation_config_of(const GgufMetadata& metadata, const Json& config) {
  Json out;
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"})
    if (const Json* id = config.find(key)) out.set(key, *id);
  // A turn may end otherwise than a text.
  const int64_t end_of_turn = metadata.integer_or("tokenizer.ggml.eot_token_id", -1);
  const Json* eos = out.find("eos_token_id");
  if (end_of_turn >= 0 && eos && eos->as_int() != end_of_turn)
    out.set("eos_token_id", Json::Array{*eos, end_of_turn});
  return out;
}

}  // namespace

ModelDescription description_of(const GgufFile& file) {
  ModelDescription out;
  out.where = file.path();
  out.config = hf_config_of(file);
  out.generation_config = generation_config_of(file.metadata(), out.config);
  if (!has_tokenizer(file.metadata())) return out;
  auto imported = text::from_gguf(tokenizer_keys_of(file.metadata()), file.path());
  out.tokenizer = std::move(imported.tokenizer);
  out.tokenizer_config = std::move(imported.config);
  return out;
}

ModelFiles open_model(const std::string& path) {
  if (fs::is_directory(path)) return {describe_folder(path), SafetensorsWeights::open_folder(path)};
  check_file(path);
  const auto file = std::make_shared<GgufFile>(path);
  return {description_of(*file), std::make_unique<GgufWeights>(file)};
}

ModelDescription open_description(const std::string& path) {
  if (fs::is_directory(path)) return describe_folder(path);
  check_file(path);
  return description_of(GgufFile(path));
}

}  // namespace weft::checkpoint
