#include "checkpoint/safetensors.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <optional>

#include "checkpoint/weight_cast.h"
#include "core/base/error.h"
#include "core/base/json.h"

namespace weft::checkpoint {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;
// Commas, braces and brackets: what parsing the header may allocate for. The largest published
// models have under 100,000 tensors.
constexpr size_t kMaxHeaderItems = 4'000'000;

// 0: no such dtype.
int64_t bits_of(const std::string& dtype) {
  static const std::pair<const char*, int64_t> kBits[] = {
      {"BOOL", 8},    {"U8", 8},      {"I8", 8},          {"I16", 16},        {"U16", 16},
      {"I32", 32},    {"U32", 32},    {"I64", 64},        {"U64", 64},        {"F16", 16},
      {"BF16", 16},   {"F32", 32},    {"F64", 64},        {"C64", 64},        {"F8_E4M3", 8},
      {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"F4", 4},
      {"F6_E2M3", 6}, {"F6_E3M2", 6}};
  for (const auto& [name, bits] : kBits)
    if (dtype == name) return bits;
  return 0;
}

std::optional<StoredFloat> float_of(const std::string& dtype) {
  if (dtype == "F64") return StoredFloat::f64;
  if (dtype == "F32") return StoredFloat::f32;
  if (dtype == "F16") return StoredFloat::f16;
  if (dtype == "BF16") return StoredFloat::bf16;
  return std::nullopt;
}

DType holding(const std::string& dtype) {
  if (dtype == "F16") return DType::f16;
  if (dtype == "BF16") return DType::bf16;
  return DType::f32;
}

// Names the file, and the tensor where there is one, in every error of the header.
class HeaderReader {
 public:
  explicit HeaderReader(const MappedFile& file) : file_(file) {}

  Json parse() {
    const size_t size = file_.size();
    if (size < 8) bad("{} bytes are too few for the header's length", size);
    uint64_t length;
    std::memcpy(&length, file_.bytes().data(), sizeof(length));
    if (length > kMaxHeader)
      bad("the header claims {} bytes; the format allows {}", length, kMaxHeader);
    if (length > size - 8)
      bad("the header claims {} bytes, but the file has only {} after its length (truncated?)",
          length, size - 8);
    const std::string_view text(reinterpret_cast<const char*>(file_.bytes().data()) + 8, length);
    if (text.empty() || text[0] != '{') bad("the header does not start with '{{'");
    const auto items = std::count_if(text.begin(), text.end(),
                                     [](char c) { return c == ',' || c == '{' || c == '['; });
    if (static_cast<size_t>(items) > kMaxHeaderItems)
      bad("the header has {} items; at most {} are read", items, kMaxHeaderItems);
    buffer_ = 8 + length;
    return Json::parse(text, file_.path() + ": header", {8, kMaxHeader});
  }

  SafetensorsEntry entry(const std::string& name, const Json& json) {
    SafetensorsEntry entry;
    entry.name = name;
    entry.dtype = member(name, json, "dtype", &Json::is_string).as_string();
    const int64_t bits = bits_of(entry.dtype);
    if (bits == 0) bad("tensor '{}': unknown dtype '{}'", name, entry.dtype);
    entry.shape = shape_of(name, member(name, json, "shape", &Json::is_array).as_array());
    const auto& offsets = member(name, json, "data_offsets", &Json::is_array).as_array();
    if (offsets.size() != 2) bad("tensor '{}': data_offsets must be two numbers", name);
    const int64_t begin = non_negative(name, "data_offsets", offsets[0]);
    const int64_t end = non_negative(name, "data_offsets", offsets[1]);
    const int64_t size = byte_size(name, entry.shape, bits);
    if (end < begin || end - begin != size)
      bad("tensor '{}': data_offsets [{}, {}] do not hold the {} bytes of {} {}", name, begin, end,
          size, entry.dtype, entry.shape.to_string());
    if (static_cast<uint64_t>(end) > file_.size() - buffer_)
      bad("tensor '{}': data_offsets [{}, {}] lie outside the {} bytes of data (truncated?)", name,
          begin, end, file_.size() - buffer_);
    entry.begin = buffer_ + static_cast<size_t>(begin);
    entry.end = buffer_ + static_cast<size_t>(end);
    return entry;
  }

  // Contiguous from the start of the buffer to the end of the file.
  void check_cover(const std::vector<SafetensorsEntry>& sorted) {
    size_t at = buffer_;
    for (const SafetensorsEntry& entry : sorted) {
      if (entry.begin != at)
        bad("tensor '{}': starts at byte {} of the data, where {} ends at {}: tensors must neither "
            "overlap nor leave holes",
            entry.name, entry.begin - buffer_, at == buffer_ ? "nothing" : "the tensor before it",
            at - buffer_);
      at = entry.end;
    }
    if (at != file_.size()) bad("{} bytes after the last tensor belong to none", file_.size() - at);
  }

  template <class... Args>
  [[noreturn]] void bad(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorKind::bad_data, "{}: {}", file_.path(),
         fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  const Json& member(const std::string& name, const Json& json, const char* key,
                     bool (Json::*has_type)() const) {
    const Json* value = json.find(key);
    if (!value || !(value->*has_type)())
      bad("tensor '{}': '{}' is missing or of the wrong type", name, key);
    return *value;
  }

  int64_t non_negative(const std::string& name, const char* key, const Json& value) {
    if (!value.is_int() || value.as_int() < 0)
      bad("tensor '{}': {} must be whole numbers from 0 to 2^63-1, found {}", name, key,
          value.dump());
    return value.as_int();
  }

  Shape shape_of(const std::string& name, const Json::Array& dims) {
    if (dims.size() > Shape::kMaxRank)
      bad("tensor '{}': {} dims; at most {} are supported", name, dims.size(), Shape::kMaxRank);
    std::vector<int64_t> values;
    for (const Json& dim : dims) values.push_back(non_negative(name, "shape", dim));
    return Shape(values);
  }

  int64_t byte_size(const std::string& name, const Shape& shape, int64_t bits) {
    int64_t total = 1;
    bool overflow = false;
    for (int64_t dim : shape) overflow |= __builtin_mul_overflow(total, dim, &total);
    overflow |= __builtin_mul_overflow(total, bits, &total);
    if (overflow) bad("tensor '{}': the size of shape {} overflows", name, shape.to_string());
    if (total % 8 != 0) bad("tensor '{}': {} bits are not whole bytes", name, total);
    return total / 8;
  }

  const MappedFile& file_;
  size_t buffer_ = 0;  // where the data begins
};

// A shard must lie beside its index.
void check_plain_name(const std::string& index, const std::string& name) {
  const bool plain = !name.empty() && name != "." && name != ".." &&
                     name.find_first_of(std::string("/\\\0", 3)) == std::string::npos;
  if (!plain)
    fail(ErrorKind::bad_data, "{}: weight_map holds what is not a plain file name: '{}'", index,
         name);
}

using WeightMap = std::vector<std::pair<std::string, std::string>>;  // tensor, file

WeightMap read_index(const std::string& path) {
  const Json index = Json::parse_file(path, {8, kMaxHeader});
  const Json* map = index.find("weight_map");
  if (!map || !map->is_object() || map->as_object().empty())
    fail(ErrorKind::bad_data, "{}: 'weight_map' is missing, empty or not an object", path);
  WeightMap entries;
  for (const auto& [tensor, file] : map->as_object()) {
    if (!file.is_string())
      fail(ErrorKind::bad_data, "{}: weight_map of '{}' is not a file name", path, tensor);
    check_plain_name(path, file.as_string());
    entries.emplace_back(tensor, file.as_string());
  }
  return entries;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(path) {
  HeaderReader reader(file_);
  const Json header = reader.parse();
  for (const auto& [name, value] : header.as_object()) {
    if (name != "__metadata__") {
      if (!value.is_object()) reader.bad("tensor '{}': its entry is not an object", name);
      entries_.push_back(reader.entry(name, value));
      continue;
    }
    if (!value.is_object()) reader.bad("__metadata__ is not an object");
    for (const auto& [key, text] : value.as_object()) {
      if (!text.is_string()) reader.bad("__metadata__ '{}' is not a string", key);
      metadata_.emplace_back(key, text.as_string());
    }
  }
  std::stable_sort(entries_.begin(), entries_.end(), [](const auto& a, const auto& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  reader.check_cover(entries_);
}

std::unique_ptr<SafetensorsWeights> SafetensorsWeights::open_file(const std::string& path) {
  std::unique_ptr<SafetensorsWeights> weights(new SafetensorsWeights(path));
  weights->add_file(path);
  return weights;
}

std::unique_ptr<SafetensorsWeights> SafetensorsWeights::open_folder(const std::string& folder) {
  namespace fs = std::filesystem;
  const fs::path index = fs::path(folder) / "model.safetensors.index.json";
  const fs::path single = fs::path(folder) / "model.safetensors";
  if (!fs::exists(index)) {
    if (fs::exists(single)) return open_file(single.string());
    fail(ErrorKind::no_input,
         "{}: neither model.safetensors nor model.safetensors.index.json is there{}", folder,
         fs::exists(fs::path(folder) / "pytorch_model.bin")
             ? "; pytorch_model.bin is not read: convert it to safetensors"
             : "");
  }
  const WeightMap map = read_index(index.string());
  std::vector<std::string> names;
  for (const auto& [tensor, file] : map) names.push_back(file);
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  std::unique_ptr<SafetensorsWeights> weights(new SafetensorsWeights(folder));
  for (const std::string& name : names) weights->add_file((fs::path(folder) / name).string());
  for (const auto& [tensor, file] : map) {
    if (!weights->contains(tensor))
      fail(ErrorKind::bad_data, "{}: tensor '{}' is in no shard; its file should be '{}'",
           index.string(), tensor, file);
  }
  if (map.size() != weights->weights().size())
    fail(ErrorKind::bad_data, "{}: lists {} tensors, but its shards hold {}", index.string(),
         map.size(), weights->weights().size());
  return weights;
}

void SafetensorsWeights::add_file(const std::string& path) {
  files_.emplace_back(path);
  const auto& entries = files_.back().entries();
  for (size_t i = 0; i < entries.size(); ++i) {
    add({entries[i].name, entries[i].shape, holding(entries[i].dtype), entries[i].dtype});
    places_.push_back({files_.size() - 1, i});
  }
}

void SafetensorsWeights::read_range(size_t position, int64_t begin, const Tensor& out) const {
  const SafetensorsFile& file = files_[places_[position].file];
  const SafetensorsEntry& entry = file.entries()[places_[position].entry];
  const auto type = float_of(entry.dtype);
  if (!type)
    fail(ErrorKind::bad_data,
         "{}: tensor '{}' is {}: weights must be F64, F32, F16 or BF16 (is the model quantised?)",
         file.path(), entry.name, entry.dtype);
  cast_into(out, 0, *type, file.data(entry).data() + begin * size_of(*type), out.numel());
}

}  // namespace weft::checkpoint
