// `weft inspect PATH`: what a model folder, GGUF, checkpoint, run folder or dataset holds.
#pragma once

#include <string>

namespace weft::recipes {

struct InspectOptions {
  std::string path;
  bool tensors = false;  // list every tensor
  bool verify = false;   // read everything and compare checksums
  bool json = false;
};

// Prints to standard output. Throws bad_data when --verify finds damage.
void run_inspect(const InspectOptions& options);

}  // namespace weft::recipes
