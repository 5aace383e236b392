// `weft data FILE...`: tokenises once, shows what is trained on, counts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/data/data_config.h"
#include "recipes/record_options.h"

namespace weft::recipes {

struct DataOptions {
  std::vector<std::string> files;
  std::string tokenizer;  // model folder, .gguf file, or tokenizer.json
  std::string output;     // HDF5 file to write; empty: none
  int64_t show = 0;       // print the first N records with what is trained on
  bool stats = false;     // lengths, useful share after packing, what other seq_len would cost
  int64_t seq_len = 1024;
  data::TooLong too_long = data::TooLong::error;
  RecordOptions record;
  bool json = false;
};

// Prints to standard output.
void run_data(const DataOptions& options);

}  // namespace weft::recipes
