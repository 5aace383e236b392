#include "checkpoint/gguf_weights.h"

#include <algorithm>
#include <array>

#include "checkpoint/gguf_names.h"
#include "checkpoint/quant_blocks.h"
#include "checkpoint/weight_cast.h"
#include "core/base/error.h"

namespace weft::checkpoint {
namespace {

DType holding(GgmlType type) {
  if (type == GgmlType::f16) return DType::f16;
  if (type == GgmlType::bf16) return DType::bf16;
  return DType::f32;
}

}  // namespace

GgufWeights::GgufWeights(std::shared_ptr<const GgufFile> file)
    : WeightSource(file->path()), file_(std::move(file)) {
  for (size_t i = 0; i < file_->tensors().size(); ++i) {
    const GgufTensor& tensor = file_->tensors()[i];
    if (tensor.name == "rope_freqs.weight") continue;
    const char* type = block_layout(tensor.ggml_type).name;
    if (!can_read(tensor.ggml_type))
      fail(ErrorKind::bad_data,
           "{}: tensor '{}' is {}: F32, F16, BF16, Q8_0, Q4_0 and Q4_1 are read; take another "
           "quantisation of this model",
           where(), tensor.name, type);
    const std::string name = hf_name_of(tensor.name);
    places_.push_back({i, rotated_head_dim(tensor, name)});
    add({name, tensor.shape, holding(static_cast<GgmlType>(tensor.ggml_type)), type});
  }
}

int64_t GgufWeights::rotated_head_dim(const GgufTensor& tensor, const std::string& name) const {
  if (!is_rotated(name) || file_->metadata().text_or("general.architecture", "") != "llama")
    return 0;
  const bool query = name.find(".q_proj.") != std::string::npos;
  const int64_t q_heads = file_->metadata().integer("llama.attention.head_count");
  const int64_t heads =
      query ? q_heads : file_->metadata().integer_or("llama.attention.head_count_kv", q_heads);
  const int64_t rows = tensor.shape[0];
  if (heads < 1 || rows % heads != 0 || rows / heads % 2 != 0)
    fail(ErrorKind::bad_data, "{}: tensor '{}': {} rows are not {} heads of even size", where(),
         tensor.name, rows, heads);
  return rows / heads;
}

void GgufWeights::read_range(size_t position, int64_t begin, const Tensor& out) const {
  const Place& place = places_[position];
  const GgufTensor& tensor = file_->tensors()[place.tensor];
  if (place.head_dim == 0) return decode(tensor, begin, out.numel(), out, 0);
  const int64_t row_size = tensor.shape.numel() / tensor.shape[0];
  for (int64_t at = 0; at < out.numel();) {
    const int64_t row = (begin + at) / row_size, column = (begin + at) % row_size;
    const int64_t count = std::min(row_size - column, out.numel() - at);
    decode(tensor, gguf_row_of(row, place.head_dim) * row_size + column, count, out, at);
    at += count;
  }
}

// Elements [begin, begin + count) as they lie in the file, into `out` from element `at`.
void GgufWeights::decode(const GgufTensor& tensor, int64_t begin, int64_t count, const Tensor& out,
                         int64_t at) const {
  const auto type = static_cast<GgmlType>(tensor.ggml_type);
  const std::byte* data = file_->data(tensor).data();
  if (type == GgmlType::f32 || type == GgmlType::f16 || type == GgmlType::bf16) {
    const StoredFloat stored = stored_float(holding(type));
    return cast_into(out, at, stored, data + begin * static_cast<int64_t>(size_of(stored)), count);
  }
  std::array<float, 1024> values;
  for (int64_t done = 0; done < count;) {
    const int64_t take = std::min<int64_t>(values.size(), count - done);
    dequantize(type, data, begin + done, take, values.data());
    cast_into(out, at + done, StoredFloat::f32, reinterpret_cast<const std::byte*>(values.data()),
              take);
    done += take;
  }
}

}  // namespace weft::checkpoint
