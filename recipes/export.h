// `weft export SOURCE --format F`: what was trained, in a format that others read.
#pragma once

#include <string>
#include <vector>

namespace weft::recipes {

struct ExportOptions {
  std::string source;                // run folder, checkpoint, Hugging Face folder, or .gguf file
  std::string step;                  // of a run folder: "last", "best" or a number
  std::string adapter;               // PEFT adapter to merge; empty: none
  std::vector<std::string> formats;  // of export_formats()
  std::string output_dir;            // empty: <run>/export
  bool overwrite = false;            // replace what is there
  bool json = false;
};

// Prints what it wrote to standard output.
void run_export(const ExportOptions& options);

}  // namespace weft::recipes
