// A tokenizer by the path that a user names.
#pragma once

#include <string>

#include "core/text/tokenizer.h"
#include "core/text/tokenizer_config.h"

namespace weft::recipes {

struct TokenizerFiles {
  text::Tokenizer tokenizer;
  text::TokenizerConfig config;
};

// `path`: a tokenizer.json, a folder with one, or a .gguf file. Throws no_input or usage when there
// is none.
TokenizerFiles open_tokenizer(const std::string& path);

}  // namespace weft::recipes
