// safetensors: an 8-byte length, a JSON header, one buffer of tensors. Read only; every rule of the
// format is checked before a tensor is looked at. See docs/formats-in-and-out.md.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/mapped_file.h"
#include "checkpoint/weight_source.h"

namespace weft::checkpoint {

struct SafetensorsEntry {
  std::string name;
  std::string dtype;  // "F32", "BF16", "F8_E4M3", ...
  Shape shape;
  size_t begin = 0;  // bytes from the start of the file
  size_t end = 0;
};

class SafetensorsFile {
 public:
  // Throws no_input when it cannot be opened, bad_data with file, tensor and rule otherwise.
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }  // by place in the file
  const std::vector<std::pair<std::string, std::string>>& metadata() const { return metadata_; }
  std::span<const std::byte> data(const SafetensorsEntry& entry) const {
    return file_.bytes().subspan(entry.begin, entry.end - entry.begin);
  }

 private:
  MappedFile file_;
  std::vector<SafetensorsEntry> entries_;
  std::vector<std::pair<std::string, std::string>> metadata_;
};

// F64, F32, F16 and BF16 tensors of one or several files; others may be there, reading them throws.
class SafetensorsWeights : public WeightSource {
 public:
  static std::unique_ptr<SafetensorsWeights> open_file(const std::string& path);
  // model.safetensors.index.json with its shards, else model.safetensors. Throws no_input when the
  // folder has neither.
  static std::unique_ptr<SafetensorsWeights> open_folder(const std::string& folder);

 private:
  explicit SafetensorsWeights(std::string where) : WeightSource(std::move(where)) {}
  void add_file(const std::string& path);
  void read_range(size_t position, int64_t begin, const Tensor& out) const override;

  struct Place {
    size_t file = 0, entry = 0;
  };
  std::vector<SafetensorsFile> files_;
  std::vector<Place> places_;  // in the order of weights()
};

}  // namespace weft::checkpoint
