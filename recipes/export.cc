#include "recipes/export.h"

#include <fmt/format.h>

#include <filesystem>

#include "checkpoint/export_gguf.h"
#include "checkpoint/export_hf.h"
#include "core/base/error.h"
#include "recipes/export_config.h"
#include "recipes/merged_weights.h"
#include "recipes/model.h"

namespace weft::recipes {
namespace {

namespace fs = std::filesystem;

// The run's own dtype; of plain model files the one that holds what they store.
DType export_dtype(const Model& model, bool trained) {
  if (trained || !model.weights || model.weights->weights().empty())
    return model.decoder->parameters()[0]->dtype;
  return model.weights->weights()[0].dtype;
}

std::string target_of(const std::string& folder, const std::string& format) {
  if (format == "hf") return folder + "/hf";
  if (format == "peft") return folder + "/adapter";
  return folder + "/model-" + format.substr(format.find(':') + 1) + ".gguf";
}

void write(const Model& model, const std::string& format, const std::string& target, DType dtype) {
  if (format == "peft") {
    if (!model.peft)
      fail(ErrorKind::usage, "format peft: {} has no adapter (it was not trained with LoRA)",
           model.path);
    return checkpoint::export_peft(target, *model.peft, adapter_weights(model),
                                   model.decoder->parameters()[0]->dtype);
  }
  const MergedWeights merged(model);
  if (format == "hf")
    return checkpoint::export_hf(target, model.description, merged, {.dtype = dtype});
  checkpoint::export_gguf(
      target, model.description, merged,
      {.type = checkpoint::gguf_export_type(format.substr(format.find(':') + 1)),
       .name = fs::path(model.path).stem().string()});
}

}  // namespace

void run_export(const ExportOptions& options) {
  for (const std::string& format : options.formats) check_export_format(format, "--format");
  if (options.formats.empty()) fail(ErrorKind::usage, "name at least one --format");
  const bool trained = run_config_of(options.source).has_value();
  std::string folder = options.output_dir;
  if (folder.empty()) {
    if (!trained) fail(ErrorKind::usage, "name the folder to write to (--output-dir)");
    folder = options.source + "/export";
  }
  for (const std::string& format : options.formats)
    if (const std::string target = target_of(folder, format);
        fs::exists(target) && !options.overwrite)
      fail(ErrorKind::usage, "{} exists: remove it or pass --overwrite", target);
  const Model model = load_for_inference({.path = options.source,
                                          .adapter = options.adapter,
                                          .dtype = trained ? Precision::automatic : Precision::fp32,
                                          .step = options.step});
  const DType dtype = export_dtype(model, trained);
  fs::create_directories(folder);
  Json::Array written;
  for (const std::string& format : options.formats) {
    const std::string target = target_of(folder, format);
    write(model, format, target, dtype);
    written.push_back(target);
    if (!options.json) fmt::print("{:<10} {}\n", format, target);
  }
  if (options.json) {
    Json json;
    json.set("written", written);
    fmt::print("{}\n", json.dump());
  }
}

}  // namespace weft::recipes
