#include "checkpoint/gguf.h"

#include <cstring>

#include "checkpoint/quant_blocks.h"
#include "core/base/error.h"

namespace weft::checkpoint {
namespace {

constexpr uint64_t kMaxKeys = 65'536;
constexpr uint64_t kMaxTensors = 200'000;
constexpr uint64_t kMaxString = uint64_t{1} << 26;
constexpr uint64_t kMaxArray = uint64_t{1} << 22;
constexpr uint64_t kMaxAlignment = uint64_t{1} << 20;
constexpr uint64_t kMaxKeyLength = 1024;
constexpr uint64_t kMaxTensorName = 64;
constexpr uint64_t kMaxHeader = uint64_t{1} << 27;  // all keys and tensor infos

size_t size_of(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean:
      return 1;
    case GgufType::u16:
    case GgufType::i16:
      return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32:
      return 4;
    case GgufType::u64:
    case GgufType::i64:
    case GgufType::f64:
    case GgufType::string:  // at least its length
      return 8;
    case GgufType::array:
      break;
  }
  return 0;
}

// Walks the header. Nothing is allocated that the bytes left in the file could not hold.
class HeaderReader {
 public:
  explicit HeaderReader(const MappedFile& file)
      : file_(file), end_(std::min<size_t>(file.size(), kMaxHeader)) {}

  // Counts of tensors and of keys.
  std::pair<uint64_t, uint64_t> preamble() {
    what_ = "header";
    if (file_.size() < 24) bad("{} bytes are too few for a GGUF header", file_.size());
    if (std::memcmp(file_.bytes().data(), "GGUF", 4) != 0) bad("does not begin with 'GGUF'");
    at_ = 4;
    const auto version = take<uint32_t>();
    if (version == 0x03000000u || version == 0x02000000u)
      bad("is big-endian; only little-endian files are read");
    if (version != 2 && version != 3) bad("version {}; 2 and 3 are read", version);
    const auto tensors = take<uint64_t>(), keys = take<uint64_t>();
    if (tensors > kMaxTensors) bad("claims {} tensors; at most {} are read", tensors, kMaxTensors);
    if (keys > kMaxKeys) bad("claims {} keys; at most {} are read", keys, kMaxKeys);
    return {tensors, keys};
  }

  std::pair<std::string, GgufValue> key_value() {
    what_ = "a key's name";
    std::string key = string(kMaxKeyLength);
    what_ = "key '" + key + "'";
    const GgufType type = value_type();
    if (type != GgufType::array) return {std::move(key), scalar(type)};
    const GgufType element = value_type();
    if (element == GgufType::array) bad("an array of arrays");
    const auto count = take<uint64_t>();
    if (count > kMaxArray || count > (end_ - at_) / size_of(element))
      bad("claims an array of {} elements, but only {} bytes are left", count, end_ - at_);
    return {std::move(key), array(element, count)};
  }

  // Fills all but the place in the file; returns the offset that the file gives.
  uint64_t tensor_info(GgufTensor& tensor) {
    what_ = "a tensor's name";
    tensor.name = string(kMaxTensorName);
    what_ = "tensor '" + tensor.name + "'";
    const auto rank = take<uint32_t>();
    if (rank < 1 || rank > 4) bad("{} dims; 1 to 4 are allowed", rank);
    std::vector<int64_t> dims(rank);
    for (size_t i = rank; i-- > 0;) {
      const auto dim = take<uint64_t>();
      if (dim < 1 || dim > static_cast<uint64_t>(INT64_MAX)) bad("a dim of {}", dim);
      dims[i] = static_cast<int64_t>(dim);
    }
    tensor.shape = Shape(dims);
    tensor.ggml_type = take<uint32_t>();
    tensor.bytes = byte_size(tensor);
    return take<uint64_t>();
  }

  // Tensors follow each other in the order of their infos, each from a multiple of the alignment.
  void place(GgufTensor& tensor, uint64_t offset, size_t data, size_t expected) {
    what_ = "tensor '" + tensor.name + "'";
    if (offset != expected)
      bad("starts at byte {} of the data, but the tensor before it ends (padded) at {}: tensors "
          "must neither overlap nor leave holes",
          offset, expected);
    const size_t size = file_.size();
    if (data > size || offset > size - data || tensor.bytes > size - data - offset)
      bad("its {} bytes from {} lie outside the file of {} bytes (truncated?)", tensor.bytes,
          data + offset, size);
    tensor.begin = data + offset;
  }

  size_t at() const { return at_; }

  template <class... Args>
  [[noreturn]] void bad(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorKind::bad_data, "{}: {}: {}", file_.path(), what_,
         fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  template <class T>
  T take() {
    if (sizeof(T) > end_ - at_)
      bad("the file ends inside it (truncated, or over {} bytes of keys)", end_);
    T value;
    std::memcpy(&value, file_.bytes().data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }

  std::string string(uint64_t limit) {
    const auto length = take<uint64_t>();
    if (length > limit || length > end_ - at_)
      bad("claims a text of {} bytes; {} are left and at most {} are read", length, end_ - at_,
          limit);
    std::string text(reinterpret_cast<const char*>(file_.bytes().data()) + at_, length);
    at_ += length;
    return text;
  }

  GgufType value_type() {
    const auto type = take<uint32_t>();
    if (type > static_cast<uint32_t>(GgufType::f64)) bad("unknown value type {}", type);
    return static_cast<GgufType>(type);
  }

  int64_t integer(GgufType type) {
    switch (type) {
      case GgufType::u8:
        return take<uint8_t>();
      case GgufType::i8:
        return take<int8_t>();
      case GgufType::u16:
        return take<uint16_t>();
      case GgufType::i16:
        return take<int16_t>();
      case GgufType::u32:
        return take<uint32_t>();
      case GgufType::i32:
        return take<int32_t>();
      case GgufType::u64: {
        const auto value = take<uint64_t>();
        if (value > static_cast<uint64_t>(INT64_MAX)) bad("the number {} is too large", value);
        return static_cast<int64_t>(value);
      }
      case GgufType::boolean: {
        const auto value = take<uint8_t>();
        if (value > 1) bad("a boolean of value {}", value);
        return value;
      }
      default:
        return take<int64_t>();
    }
  }

  GgufValue scalar(GgufType type) {
    if (type == GgufType::string) return {type, string(kMaxString)};
    if (type == GgufType::f32) return {type, static_cast<double>(take<float>())};
    if (type == GgufType::f64) return {type, take<double>()};
    if (type == GgufType::boolean) return {type, integer(type) != 0};
    return {type, integer(type)};
  }

  GgufValue array(GgufType type, uint64_t count) {
    if (type == GgufType::string) {
      GgufValue::Strings values;
      for (uint64_t i = 0; i < count; ++i) values.push_back(string(kMaxString));
      return {type, std::move(values)};
    }
    if (type == GgufType::f32 || type == GgufType::f64) {
      GgufValue::Floats values(count);
      for (double& value : values)
        value = type == GgufType::f32 ? static_cast<double>(take<float>()) : take<double>();
      return {type, std::move(values)};
    }
    GgufValue::Integers values(count);
    for (int64_t& value : values) value = integer(type);
    return {type, std::move(values)};
  }

  size_t byte_size(const GgufTensor& tensor) {
    const BlockLayout layout = block_layout(tensor.ggml_type);
    if (!layout.name) bad("unknown tensor type {}", tensor.ggml_type);
    if (tensor.shape[-1] % layout.elements != 0)
      bad("rows of {} elements are not whole blocks of {} ({})", tensor.shape[-1], layout.elements,
          layout.name);
    int64_t blocks = tensor.shape[-1] / layout.elements, bytes = 0;
    bool overflow = false;
    // Elements are checked too: they are what the shape's users multiply.
    int64_t elements = 1;
    for (int64_t dim : tensor.shape) overflow |= __builtin_mul_overflow(elements, dim, &elements);
    for (int i = 0; i + 1 < tensor.shape.rank(); ++i)
      overflow |= __builtin_mul_overflow(blocks, tensor.shape[i], &blocks);
    overflow |= __builtin_mul_overflow(blocks, layout.bytes, &bytes);
    if (overflow) bad("the size of shape {} overflows", tensor.shape.to_string());
    return static_cast<size_t>(bytes);
  }

  const MappedFile& file_;
  const size_t end_;
  size_t at_ = 0;
  std::string what_;
};

size_t padded(size_t size, size_t alignment) {
  return (size + alignment - 1) / alignment * alignment;
}

uint64_t alignment_of(const GgufMetadata& metadata) {
  const int64_t alignment = metadata.integer_or("general.alignment", 32);
  const bool power = alignment > 0 && (alignment & (alignment - 1)) == 0;
  if (!power || static_cast<uint64_t>(alignment) > kMaxAlignment)
    fail(ErrorKind::bad_data, "{}: key 'general.alignment': {} is not a power of two from 1 to {}",
         metadata.where(), alignment, kMaxAlignment);
  return static_cast<uint64_t>(alignment);
}

}  // namespace

void GgufMetadata::add(std::string key, GgufValue value) {
  if (!index_.emplace(key, values_.size()).second)
    fail(ErrorKind::bad_data, "{}: key '{}' is there twice", where_, key);
  values_.emplace_back(std::move(key), std::move(value));
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  const auto found = index_.find(std::string(key));
  return found == index_.end() ? nullptr : &values_[found->second].second;
}

template <class T>
const T& GgufMetadata::get(std::string_view key, const char* wanted) const {
  const GgufValue* value = find(key);
  if (!value) fail(ErrorKind::bad_data, "{}: key '{}' is missing", where_, key);
  const T* typed = std::get_if<T>(&value->value);
  if (!typed) fail(ErrorKind::bad_data, "{}: key '{}' is not {}", where_, key, wanted);
  return *typed;
}

int64_t GgufMetadata::integer(std::string_view key) const {
  return get<int64_t>(key, "an integer");
}
int64_t GgufMetadata::integer_or(std::string_view key, int64_t fallback) const {
  return contains(key) ? integer(key) : fallback;
}
double GgufMetadata::number(std::string_view key) const {
  return get<double>(key, "a number");
}
double GgufMetadata::number_or(std::string_view key, double fallback) const {
  return contains(key) ? number(key) : fallback;
}
bool GgufMetadata::boolean_or(std::string_view key, bool fallback) const {
  return contains(key) ? get<bool>(key, "a boolean") : fallback;
}
const std::string& GgufMetadata::text(std::string_view key) const {
  return get<std::string>(key, "a text");
}
std::string GgufMetadata::text_or(std::string_view key, std::string fallback) const {
  return contains(key) ? text(key) : fallback;
}

GgufFile::GgufFile(const std::string& path) : file_(path), metadata_(path) {
  HeaderReader reader(file_);
  const auto [num_tensors, num_keys] = reader.preamble();
  for (uint64_t i = 0; i < num_keys; ++i) {
    auto [key, value] = reader.key_value();
    metadata_.add(std::move(key), std::move(value));
  }
  const uint64_t alignment = alignment_of(metadata_);
  std::vector<uint64_t> offsets;
  for (uint64_t i = 0; i < num_tensors; ++i) {
    GgufTensor tensor;
    offsets.push_back(reader.tensor_info(tensor));
    if (!index_.emplace(tensor.name, tensors_.size()).second) reader.bad("is there twice");
    tensors_.push_back(std::move(tensor));
  }
  const size_t data = padded(reader.at(), alignment);
  size_t expected = 0;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    reader.place(tensors_[i], offsets[i], data, expected);
    expected = padded(expected + tensors_[i].bytes, alignment);
  }
  if (metadata_.integer_or("split.count", 1) > 1)
    fail(ErrorKind::bad_data,
         "{}: one of {} files of a split model; join them first (llama-gguf-split --merge)", path,
         metadata_.integer("split.count"));
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto found = index_.find(std::string(name));
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace weft::checkpoint
