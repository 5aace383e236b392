// `weft generate MODEL --prompt TEXT`: text from a model, through its chat template where it has
// one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "recipes/train_config.h"

namespace weft::recipes {

struct GenerateOptions {
  std::string model;    // Hugging Face folder, .gguf file, run folder, or checkpoint
  std::string adapter;  // PEFT adapter on top; empty: none
  std::string prompt;
  std::string system;  // system message; empty: the template's own
  bool raw = false;    // the prompt as it is, without a chat template
  int64_t max_tokens = 256;
  double temperature = 0;  // 0: greedy
  double top_p = 1;
  int64_t top_k = 0;  // 0: all
  int64_t seed = 0;
  std::vector<std::string> stop;  // texts that end the answer, beside the model's end tokens
  Precision dtype = Precision::automatic;
  DeviceChoice device = DeviceChoice::automatic;
  bool json = false;  // one object with text, ids and figures instead of streamed text
};

// Streams to standard output.
void run_generate(const GenerateOptions& options);

}  // namespace weft::recipes
