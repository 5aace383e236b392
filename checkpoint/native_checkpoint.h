// A committed checkpoint, read on any layout.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/native_shard.h"

namespace weft::checkpoint {

// A tensor of the checkpoint as a whole.
struct TensorInfo {
  std::string kind;
  std::string name;
  Shape shape;
  DType dtype = DType::f32;
};

// Keeps its files open: an opened checkpoint can be read to the end even when retention removes it
// meanwhile. Not thread-safe; open one a thread.
class NativeCheckpoint {
 public:
  // Verifies the manifest, and that all files are there with the right size. Throws
  // DamagedCheckpoint.
  NativeCheckpoint(FileSystem& files, const std::string& folder);

  const std::string& folder() const { return folder_; }
  int64_t step() const { return manifest_->step; }
  const Manifest& manifest() const { return *manifest_; }

  std::vector<TensorInfo> tensors() const;  // sorted by kind, name
  const TensorInfo* find(const std::string& kind, const std::string& name) const;  // or nullptr

  // Elements [begin, begin + out.numel()) of the global tensor. Throws bad_data when the checkpoint
  // has no such tensor or holds it in another shape or dtype than `shape` and `out` (both are
  // named), DamagedCheckpoint when the bytes are not those that were written.
  void read_range(const std::string& kind, const std::string& name, const Shape& shape,
                  int64_t begin, const Tensor& out) const;
  void read_box(const std::string& kind, const std::string& name, const Shape& shape,
                const Box& box, const Tensor& out) const;
  Tensor read(const std::string& kind, const std::string& name) const;  // the whole tensor

  // Checks every byte. Empty: whole. Else a line a fault, naming file, dataset and chunk.
  std::vector<std::string> verify() const;
  // For `weft inspect`: step, layout, tensors with shapes, dtypes and bytes, totals, config.
  Json describe() const;

 private:
  struct Entry {
    TensorInfo info;
    std::vector<std::pair<size_t, size_t>> pieces;  // file, piece
  };
  const Entry& entry(const std::string& kind, const std::string& name, const Shape& shape,
                     DType dtype) const;
  using RunsOf = std::function<std::vector<parallel::CopyRun>(const Box& stored)>;
  void gather(const Entry& entry, const RunsOf& runs_of, const Tensor& out) const;

  std::string folder_;
  std::unique_ptr<Manifest> manifest_;
  std::vector<std::unique_ptr<ShardReader>> shards_;
  std::map<std::pair<std::string, std::string>, Entry> index_;
};

}  // namespace weft::checkpoint
