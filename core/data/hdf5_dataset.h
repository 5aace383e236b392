// Tokenised records in an HDF5 file (docs/dataset-format.md).
#pragma once

#include <functional>
#include <string>

#include "core/data/dataset.h"
#include "core/data/encode_record.h"

namespace weft::data {

struct Hdf5DatasetInfo {
  std::string tokenizer_hash;  // Tokenizer::hash of the one that made the tokens
  int64_t vocab_size = 0;      // of that tokenizer
  std::string weft_version;    // that wrote the file
  int64_t documents = 0;
  int64_t tokens = 0;
};

// By the file's first bytes, not by its name. Throws no_input when it cannot be opened.
bool is_hdf5_file(const std::string& path);

// Written under a temporary name, synced and renamed: `path` is there whole or not at all. Throws
// io. REQUIRES at least one example, ids below vocab_size.
void write_hdf5_dataset(const std::string& path, const Dataset& dataset,
                        const std::string& tokenizer_hash, int64_t vocab_size);

// Both read files from strangers: what a file claims is checked against its size before memory is
// taken for it, and links, filters and storage outside of the file are refused. Throw bad_data.
Hdf5DatasetInfo read_hdf5_info(const std::string& path);

// Calls `take` with each document and its place ("file, document 17") until it returns false.
// Throws bad_data also when the tokens are another tokenizer's.
void read_hdf5_dataset(const std::string& path, const std::string& tokenizer_hash,
                       const std::function<bool(const Example&, const std::string&)>& take);

}  // namespace weft::data
