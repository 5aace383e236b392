#include "checkpoint/safetensors_writer.h"

#include <algorithm>
#include <numeric>

#include "checkpoint/export_file.h"
#include "core/base/error.h"
#include "core/base/json.h"

namespace weft::checkpoint {
namespace {

constexpr int64_t kPiece = int64_t{1} << 20;  // elements converted at a time

const char* safetensors_name(DType dtype) {
  if (dtype == DType::f16) return "F16";
  if (dtype == DType::bf16) return "BF16";
  CHECK(dtype == DType::f32, "weights are not written as {}", name_of(dtype));
  return "F32";
}

int64_t bytes_of(const WeightSource& source, const SafetensorsPlan& plan) {
  return source.shape(plan.source_name).numel() * static_cast<int64_t>(size_of(plan.dtype));
}

int64_t bytes_of(const WeightSource& source, const std::vector<SafetensorsPlan>& plans) {
  return std::accumulate(
      plans.begin(), plans.end(), int64_t{0},
      [&](int64_t sum, const SafetensorsPlan& plan) { return sum + bytes_of(source, plan); });
}

// The JSON header, padded so that the data begins 8-byte aligned.
std::string header_of(const WeightSource& source, const std::vector<SafetensorsPlan>& tensors) {
  Json::Object header{{"__metadata__", Json::Object{{"format", "pt"}}}};
  int64_t begin = 0;
  for (const SafetensorsPlan& plan : tensors) {
    const int64_t end = begin + bytes_of(source, plan);
    Json::Array shape;
    for (int64_t dim : source.shape(plan.source_name)) shape.emplace_back(dim);
    Json entry;
    entry.set("dtype", safetensors_name(plan.dtype));
    entry.set("shape", std::move(shape));
    entry.set("data_offsets", Json::Array{begin, end});
    header.emplace_back(plan.name, std::move(entry));
    begin = end;
  }
  std::string text = Json(std::move(header)).dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

// bf16 and f32 have the range of every source; f16 has not.
void check_range(const Tensor& part, const WeightSource& source, const SafetensorsPlan& plan) {
  if (part.dtype() != DType::f16) return;
  const f16* values = part.data<f16>();
  const bool fits = std::all_of(values, values + part.numel(),
                                [](f16 value) { return (value.bits & 0x7c00u) != 0x7c00u; });
  if (!fits)
    fail(ErrorKind::bad_data,
         "{}: tensor '{}' holds a value that is not finite or does not fit f16; export bf16 or f32",
         source.where(), plan.source_name);
}

void write_tensor(ExportFile& file, const WeightSource& source, const SafetensorsPlan& plan) {
  const int64_t numel = source.shape(plan.source_name).numel();
  const Tensor piece =
      Tensor::empty({std::min(kPiece, numel)}, plan.dtype, {}, MemoryTag::workspace);
  for (int64_t begin = 0; begin < numel; begin += kPiece) {
    const Tensor part = piece.rows(0, std::min(kPiece, numel - begin));
    source.read(plan.source_name, begin, part);
    check_range(part, source, plan);
    file.write(part.raw(), part.bytes());
  }
}

std::string shard_name(size_t shard, size_t num_shards) {
  return fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, num_shards);
}

}  // namespace

void write_safetensors(const std::string& path, const WeightSource& source,
                       std::vector<SafetensorsPlan> tensors) {
  // The reference's order: wide dtypes first, so that all data is aligned; then by name.
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    const size_t a_size = size_of(a.dtype), b_size = size_of(b.dtype);
    return a_size != b_size ? a_size > b_size : a.name < b.name;
  });
  const std::string header = header_of(source, tensors);
  const uint64_t length = header.size();
  ExportFile file(path);
  file.write(&length, sizeof(length));
  file.write(header);
  for (const SafetensorsPlan& plan : tensors) write_tensor(file, source, plan);
  file.commit();
}

void write_safetensors_folder(const std::string& folder, const WeightSource& source,
                              const std::vector<SafetensorsPlan>& tensors,
                              int64_t max_shard_bytes) {
  const int64_t total = bytes_of(source, tensors);
  if (total <= max_shard_bytes)
    return write_safetensors(folder + "/model.safetensors", source, tensors);
  std::vector<std::vector<SafetensorsPlan>> shards(1);
  int64_t in_shard = 0;
  for (const SafetensorsPlan& plan : tensors) {
    const int64_t bytes = bytes_of(source, plan);
    if (in_shard > 0 && in_shard + bytes > max_shard_bytes) {
      shards.emplace_back();
      in_shard = 0;
    }
    in_shard += bytes;
    shards.back().push_back(plan);
  }
  Json::Object map;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(i, shards.size());
    for (const SafetensorsPlan& plan : shards[i]) map.emplace_back(plan.name, name);
    write_safetensors(folder + "/" + name, source, shards[i]);
  }
  std::sort(map.begin(), map.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  Json index;
  index.set("metadata", Json::Object{{"total_size", total}});
  index.set("weight_map", std::move(map));
  write_text_file(folder + "/model.safetensors.index.json", index.dump(2) + "\n");
}

}  // namespace weft::checkpoint
