// GGUF, the model file of llama.cpp: its metadata and the places of its tensors. Versions 2 and 3,
// little-endian. See docs/formats-in-and-out.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "checkpoint/mapped_file.h"
#include "core/tensor/shape.h"

namespace weft::checkpoint {

// Numbers on disk; they never change.
enum class GgufType : uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12,
};

// A value, or an array when it holds a vector; `type` is that of the value or of the elements.
struct GgufValue {
  using Integers = std::vector<int64_t>;
  using Floats = std::vector<double>;
  using Strings = std::vector<std::string>;

  GgufType type = GgufType::u32;
  std::variant<int64_t, double, bool, std::string, Integers, Floats, Strings> value;

  static GgufValue u32(int64_t value) { return {GgufType::u32, value}; }
  static GgufValue f32(double value) { return {GgufType::f32, value}; }
  static GgufValue boolean(bool value) { return {GgufType::boolean, value}; }
  static GgufValue text(std::string value) { return {GgufType::string, std::move(value)}; }
  static GgufValue texts(Strings values) { return {GgufType::string, std::move(values)}; }
  static GgufValue i32s(Integers values) { return {GgufType::i32, std::move(values)}; }
  static GgufValue f32s(Floats values) { return {GgufType::f32, std::move(values)}; }
};

// Keys in the order of the file. `where` (the file) begins every error.
class GgufMetadata {
 public:
  explicit GgufMetadata(std::string where) : where_(std::move(where)) {}

  void add(std::string key, GgufValue value);  // throws bad_data on a duplicate
  const std::vector<std::pair<std::string, GgufValue>>& values() const { return values_; }
  const std::string& where() const { return where_; }
  const GgufValue* find(std::string_view key) const;
  bool contains(std::string_view key) const { return find(key) != nullptr; }

  // Throw bad_data when the key is missing or of another type; with a fallback, only the latter.
  int64_t integer(std::string_view key) const;
  int64_t integer_or(std::string_view key, int64_t fallback) const;
  double number(std::string_view key) const;
  double number_or(std::string_view key, double fallback) const;
  bool boolean_or(std::string_view key, bool fallback) const;
  const std::string& text(std::string_view key) const;
  std::string text_or(std::string_view key, std::string fallback) const;

 private:
  template <class T>
  const T& get(std::string_view key, const char* wanted) const;

  std::string where_;
  std::vector<std::pair<std::string, GgufValue>> values_;
  std::unordered_map<std::string, size_t> index_;
};

struct GgufTensor {
  std::string name;        // GGUF's: "blk.0.attn_q.weight"
  Shape shape;             // slowest first, as Hugging Face's (the file has it reversed)
  uint32_t ggml_type = 0;  // known to block_layout()
  size_t begin = 0;        // bytes from the start of the file
  size_t bytes = 0;
};

class GgufFile {
 public:
  // Throws no_input when it cannot be opened, bad_data with file, key or tensor and rule otherwise.
  explicit GgufFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const GgufMetadata& metadata() const { return metadata_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }  // by place in the file
  const GgufTensor* find(std::string_view name) const;
  std::span<const std::byte> data(const GgufTensor& tensor) const {
    return file_.bytes().subspan(tensor.begin, tensor.bytes);
  }

 private:
  MappedFile file_;
  GgufMetadata metadata_;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string, size_t> index_;
};

}  // namespace weft::checkpoint
