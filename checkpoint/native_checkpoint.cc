#include "checkpoint/native_checkpoint.h"

#include <algorithm>

#include "core/base/error.h"

namespace weft::checkpoint {
namespace {

constexpr size_t kMaxManifestBytes = size_t{1} << 30;

std::unique_ptr<Manifest> read_manifest(FileSystem& files, const std::string& folder) {
  const std::string path = join(folder, kManifestName);
  std::string text;
  try {
    text = read_text(files, path, kMaxManifestBytes);
    return std::make_unique<Manifest>(Manifest::from_text(text, path));
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::unavailable) throw;  // whole, but from another version
    throw DamagedCheckpoint(error.what());
  }
}

Json json_of(const Shape& shape) {
  Json::Array dims;
  for (int64_t dim : shape) dims.push_back(dim);
  return Json(std::move(dims));
}

}  // namespace

NativeCheckpoint::NativeCheckpoint(FileSystem& files, const std::string& folder)
    : folder_(folder), manifest_(read_manifest(files, folder)) {
  for (size_t f = 0; f < manifest_->files.size(); ++f) {
    const FileRecord& record = manifest_->files[f];
    shards_.push_back(std::make_unique<ShardReader>(files, join(folder, record.name), record,
                                                    manifest_->chunk_bytes));
    for (size_t p = 0; p < record.pieces.size(); ++p) {
      const PieceRecord& piece = record.pieces[p];
      Entry& entry = index_[{piece.kind, piece.name}];
      entry.info = {piece.kind, piece.name, piece.shape, piece.dtype};
      entry.pieces.emplace_back(f, p);
    }
  }
}

std::vector<TensorInfo> NativeCheckpoint::tensors() const {
  std::vector<TensorInfo> list;
  for (const auto& [key, entry] : index_) list.push_back(entry.info);
  return list;
}

const TensorInfo* NativeCheckpoint::find(const std::string& kind, const std::string& name) const {
  const auto found = index_.find({kind, name});
  return found == index_.end() ? nullptr : &found->second.info;
}

const NativeCheckpoint::Entry& NativeCheckpoint::entry(const std::string& kind,
                                                       const std::string& name, const Shape& shape,
                                                       DType dtype) const {
  const auto found = index_.find({kind, name});
  if (found == index_.end())
    fail(ErrorKind::bad_data,
         "[checkpoint] {} has no {} of '{}': it is of another model or recipe ('weft inspect {}' "
         "lists what is there)",
         folder_, kind, name, folder_);
  const TensorInfo& info = found->second.info;
  if (!(info.shape == shape) || info.dtype != dtype)
    fail(ErrorKind::bad_data,
         "[checkpoint] {}: {} of '{}' is {} {}, but this run needs {} {}: resume with the config "
         "that it was saved with",
         folder_, kind, name, name_of(info.dtype), info.shape.to_string(), name_of(dtype),
         shape.to_string());
  return found->second;
}

void NativeCheckpoint::gather(const Entry& entry, const RunsOf& runs_of, const Tensor& out) const {
  CHECK(out.device().is_cpu(), "checkpoints are read into host memory");
  int64_t copied = 0;
  for (const auto& [file, index] : entry.pieces) {
    const PieceRecord& piece = manifest_->files[file].pieces[index];
    const std::vector<parallel::CopyRun> runs = runs_of(piece.box);
    if (runs.empty()) continue;
    shards_[file]->copy(index, runs, out.raw());
    for (const parallel::CopyRun& run : runs) copied += run.count;
  }
  CHECK(copied == out.numel(), "{} of {} elements of {}", copied, out.numel(), entry.info.name);
}

void NativeCheckpoint::read_range(const std::string& kind, const std::string& name,
                                  const Shape& shape, int64_t begin, const Tensor& out) const {
  const Entry& tensor = entry(kind, name, shape, out.dtype());
  CHECK(begin >= 0 && out.numel() <= shape.numel() - begin, "[{}, {}) of {} {}", begin,
        begin + out.numel(), name, shape.to_string());
  if (out.numel() == 0) return;
  gather(
      tensor,
      [&](const Box& stored) { return parallel::copy_runs(stored, shape, begin, out.numel()); },
      out);
}

void NativeCheckpoint::read_box(const std::string& kind, const std::string& name,
                                const Shape& shape, const Box& box, const Tensor& out) const {
  const Entry& tensor = entry(kind, name, shape, out.dtype());
  CHECK(box.numel() == out.numel(), "{} elements for a box of {}", out.numel(), box.numel());
  if (out.numel() == 0) return;
  gather(
      tensor, [&](const Box& stored) { return parallel::copy_runs(stored, box); }, out);
}

Tensor NativeCheckpoint::read(const std::string& kind, const std::string& name) const {
  const TensorInfo* info = find(kind, name);
  if (!info) fail(ErrorKind::bad_data, "[checkpoint] {} has no {} of '{}'", folder_, kind, name);
  Tensor out = Tensor::empty(info->shape, info->dtype, {}, MemoryTag::workspace);
  read_range(kind, name, info->shape, 0, out);
  return out;
}

std::vector<std::string> NativeCheckpoint::verify() const {
  std::vector<std::string> faults;
  const auto attempt = [&](const std::function<void()>& check) {
    try {
      check();
    } catch (const Error& error) {
      faults.push_back(error.what());
    }
  };
  for (size_t f = 0; f < shards_.size(); ++f) {
    attempt([&] { shards_[f]->verify_structure(); });
    for (size_t p = 0; p < manifest_->files[f].pieces.size(); ++p)
      attempt([&] { shards_[f]->verify_piece(p); });
  }
  return faults;
}

Json NativeCheckpoint::describe() const {
  Json::Array tensors, files;
  int64_t parameters = 0, total = 0;
  for (const auto& [key, entry] : index_) {
    const TensorInfo& info = entry.info;
    const int64_t bytes = info.shape.numel() * static_cast<int64_t>(size_of(info.dtype));
    tensors.push_back(Json(Json::Object{{"kind", info.kind},
                                        {"name", info.name},
                                        {"shape", json_of(info.shape)},
                                        {"dtype", name_of(info.dtype)},
                                        {"bytes", bytes},
                                        {"pieces", entry.pieces.size()}}));
    if (info.kind == "value") parameters += info.shape.numel();
  }
  for (const FileRecord& file : manifest_->files) {
    files.push_back(Json(
        Json::Object{{"name", file.name}, {"bytes", file.bytes}, {"pieces", file.pieces.size()}}));
    total += file.bytes;
  }
  return Json(Json::Object{{"format", "weft-checkpoint"},
                           {"version", kManifestVersion},
                           {"weft", manifest_->weft_version},
                           {"folder", folder_},
                           {"step", manifest_->step},
                           {"layout", manifest_->layout},
                           {"base_model", manifest_->base_model},
                           {"parameters", parameters},
                           {"bytes", total},
                           {"files", Json(std::move(files))},
                           {"tensors", Json(std::move(tensors))},
                           {"trainer", manifest_->trainer},
                           {"config", manifest_->config}});
}

}  // namespace weft::checkpoint
