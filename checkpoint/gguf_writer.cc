#include "checkpoint/gguf_writer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "checkpoint/export_file.h"
#include "checkpoint/gguf_names.h"
#include "core/base/error.h"

namespace weft::checkpoint {
namespace {

constexpr size_t kAlignment = 32;
constexpr int64_t kPiece = int64_t{1} << 20;  // elements converted at a time, at least a row

template <class T>
void put(ExportFile& file, T value) {
  file.write(&value, sizeof(value));
}

void put(ExportFile& file, const std::string& text) {
  put<uint64_t>(file, text.size());
  file.write(text);
}

void put_integer(ExportFile& file, GgufType type, int64_t value) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean:
      return put(file, static_cast<uint8_t>(value));
    case GgufType::u16:
    case GgufType::i16:
      return put(file, static_cast<uint16_t>(value));
    case GgufType::u32:
    case GgufType::i32:
      return put(file, static_cast<uint32_t>(value));
    default:
      return put(file, value);
  }
}

void put_number(ExportFile& file, GgufType type, double value) {
  if (type == GgufType::f32) return put(file, static_cast<float>(value));
  put(file, value);
}

void put_value(ExportFile& file, const GgufValue& value) {
  const auto type = static_cast<uint32_t>(value.type);
  const auto head = [&](size_t count) {
    put(file, static_cast<uint32_t>(GgufType::array));
    put(file, type);
    put<uint64_t>(file, count);
  };
  if (const auto* texts = std::get_if<GgufValue::Strings>(&value.value)) {
    head(texts->size());
    for (const std::string& text : *texts) put(file, text);
  } else if (const auto* integers = std::get_if<GgufValue::Integers>(&value.value)) {
    head(integers->size());
    for (int64_t integer : *integers) put_integer(file, value.type, integer);
  } else if (const auto* numbers = std::get_if<GgufValue::Floats>(&value.value)) {
    head(numbers->size());
    for (double number : *numbers) put_number(file, value.type, number);
  } else {
    put(file, type);
    if (const auto* text = std::get_if<std::string>(&value.value)) put(file, *text);
    if (const auto* integer = std::get_if<int64_t>(&value.value))
      put_integer(file, value.type, *integer);
    if (const auto* number = std::get_if<double>(&value.value))
      put_number(file, value.type, *number);
    if (const auto* boolean = std::get_if<bool>(&value.value))
      put_integer(file, value.type, *boolean);
  }
}

Shape shape_of(const WeightSource& source, const GgufPlan& plan) {
  if (plan.source_name.empty()) return {static_cast<int64_t>(plan.values.size())};
  return source.shape(plan.source_name);
}

uint64_t bytes_of(const Shape& shape, GgmlType type) {
  const BlockLayout layout = block_layout(static_cast<uint32_t>(type));
  return static_cast<uint64_t>(shape.numel() / layout.elements * layout.bytes);
}

// Whole rows [begin, end) of a plan, as floats in the order of the file.
class RowReader {
 public:
  RowReader(const WeightSource& source, const GgufPlan& plan)
      : source_(source), plan_(plan), shape_(shape_of(source, plan)) {
    num_rows_ = shape_.rank() > 1 || plan.rotated_head_dim > 0 ? shape_[0] : 1;
    row_size_ = num_rows_ > 0 ? shape_.numel() / num_rows_ : 0;
  }

  int64_t num_rows() const { return num_rows_; }
  int64_t row_size() const { return row_size_; }

  void read(int64_t begin, int64_t end, float* out) const {
    const int64_t count = (end - begin) * row_size_;
    if (plan_.source_name.empty()) {
      std::copy_n(plan_.values.begin() + begin * row_size_, count, out);
    } else if (plan_.rotated_head_dim == 0) {
      read_source(begin, count, out);
    } else {
      for (int64_t row = begin; row < end; ++row, out += row_size_)
        read_source(hf_row_of(row, plan_.rotated_head_dim), row_size_, out);
    }
  }

 private:
  void read_source(int64_t row, int64_t count, float* out) const {
    source_.read(plan_.source_name, row * row_size_,
                 Tensor::wrap(out, {count}, DType::f32, std::shared_ptr<void>(out, [](void*) {})));
  }

  const WeightSource& source_;
  const GgufPlan& plan_;
  const Shape shape_;
  int64_t num_rows_ = 0, row_size_ = 0;
};

[[noreturn]] void refuse(const GgufPlan& plan, const std::string& where) {
  fail(
      ErrorKind::bad_data,
      "{}: tensor '{}' holds a value that is not finite or does not fit {}; export bf16 or f32, or "
      "look at the training run",
      where, plan.source_name, block_layout(static_cast<uint32_t>(plan.type)).name);
}

template <class T>
bool encode_as(const float* values, int64_t count, std::byte* out) {
  for (int64_t i = 0; i < count; ++i) {
    const T value(values[i]);
    if (!std::isfinite(static_cast<float>(value))) return false;
    std::memcpy(out + i * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
  }
  return true;
}

bool encode(GgmlType type, const float* values, int64_t count, std::byte* out) {
  if (type == GgmlType::f32) return encode_as<float>(values, count, out);
  if (type == GgmlType::f16) return encode_as<f16>(values, count, out);
  if (type == GgmlType::bf16) return encode_as<bf16>(values, count, out);
  CHECK(type == GgmlType::q8_0, "type {} is not written", static_cast<uint32_t>(type));
  return quantize_q8_0(values, count, out);
}

void write_tensor(ExportFile& file, const WeightSource& source, const GgufPlan& plan) {
  const RowReader rows(source, plan);
  const int64_t step = std::max<int64_t>(1, kPiece / std::max<int64_t>(1, rows.row_size()));
  const int64_t most = std::min(step, rows.num_rows());
  std::vector<float> values(static_cast<size_t>(most * rows.row_size()));
  std::vector<std::byte> encoded(bytes_of({most, rows.row_size()}, plan.type));
  for (int64_t begin = 0; begin < rows.num_rows(); begin += step) {
    const int64_t end = std::min(begin + step, rows.num_rows());
    const int64_t count = (end - begin) * rows.row_size();
    rows.read(begin, end, values.data());
    if (!encode(plan.type, values.data(), count, encoded.data())) refuse(plan, source.where());
    file.write(encoded.data(), bytes_of({count}, plan.type));
  }
  file.pad_to(kAlignment);
}

void write_info(ExportFile& file, const Shape& shape, const GgufPlan& plan, uint64_t offset) {
  put(file, plan.name);
  put(file, static_cast<uint32_t>(shape.rank()));
  for (int i = shape.rank(); i-- > 0;) put(file, static_cast<uint64_t>(shape[i]));
  put(file, static_cast<uint32_t>(plan.type));
  put(file, offset);
}

}  // namespace

void write_gguf(const std::string& path, const GgufMetadata& metadata, const WeightSource& source,
                const std::vector<GgufPlan>& tensors) {
  ExportFile file(path);
  file.write("GGUF");
  put(file, uint32_t{3});
  put<uint64_t>(file, tensors.size());
  put<uint64_t>(file, metadata.values().size());
  for (const auto& [key, value] : metadata.values()) {
    put(file, key);
    put_value(file, value);
  }
  uint64_t offset = 0;
  for (const GgufPlan& plan : tensors) {
    const Shape shape = shape_of(source, plan);
    write_info(file, shape, plan, offset);
    offset += (bytes_of(shape, plan.type) + kAlignment - 1) / kAlignment * kAlignment;
  }
  file.pad_to(kAlignment);
  for (const GgufPlan& plan : tensors) write_tensor(file, source, plan);
  file.commit();
}

}  // namespace weft::checkpoint
