#include "recipes/open_tokenizer.h"

#include <filesystem>

#include "checkpoint/model_files.h"
#include "core/base/error.h"

namespace weft::recipes {

TokenizerFiles open_tokenizer(const std::string& path) {
  namespace fs = std::filesystem;
  fs::path file = path;
  if (fs::is_directory(file)) file /= "tokenizer.json";
  if (file.extension() == ".json" && fs::exists(file)) {
    const std::string folder = file.parent_path().string();
    return {text::Tokenizer::from_file(file.string()),
            text::TokenizerConfig::from_folder(folder.empty() ? "." : folder)};
  }
  checkpoint::ModelDescription model = checkpoint::open_description(path);
  if (!model.tokenizer) fail(ErrorKind::usage, "{} has no tokenizer", path);
  return {std::move(*model.tokenizer), std::move(model.tokenizer_config)};
}

}  // namespace weft::recipes
