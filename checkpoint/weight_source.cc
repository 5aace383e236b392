#include "checkpoint/weight_source.h"

#include <algorithm>
#include <unordered_set>

#include "checkpoint/weight_cast.h"
#include "core/base/error.h"

namespace weft::checkpoint {
namespace {

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() >= end.size() &&
         std::string_view(text).substr(text.size() - end.size()) == end;
}

// Tensors that some writers add and no model reads.
bool harmless_extra(const std::string& name) {
  return name == "lm_head.weight" || ends_with(name, "rotary_emb.inv_freq") ||
         ends_with(name, "rotary_emb.cos_cached") || ends_with(name, "rotary_emb.sin_cached");
}

// "  missing (9): a, b, c and 6 more"
void append_list(std::string& text, const char* title, const std::vector<std::string>& lines) {
  constexpr size_t kShown = 5;
  if (lines.empty()) return;
  text += fmt::format("\n  {} ({}):", title, lines.size());
  for (size_t i = 0; i < std::min(kShown, lines.size()); ++i) text += "\n    " + lines[i];
  if (lines.size() > kShown) text += fmt::format("\n    and {} more", lines.size() - kShown);
}

}  // namespace

void WeightSource::add(WeightInfo info) {
  if (!index_.emplace(info.name, weights_.size()).second)
    fail(ErrorKind::bad_data, "{}: tensor '{}' is there twice", where_, info.name);
  weights_.push_back(std::move(info));
}

size_t WeightSource::position(const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end()) fail(ErrorKind::bad_data, "{}: there is no tensor '{}'", where_, name);
  return found->second;
}

void WeightSource::read(const std::string& name, int64_t begin, const Tensor& out) const {
  const size_t at = position(name);
  const int64_t numel = weights_[at].shape.numel();
  CHECK(out.device().is_cpu() && begin >= 0 && begin <= numel && out.numel() <= numel - begin,
        "'{}' has {} elements, asked for {} from {}", name, numel, out.numel(), begin);
  if (out.numel() > 0) read_range(at, begin, out);
}

Tensor WeightSource::read_all(const std::string& name, DType dtype) const {
  Tensor out = Tensor::empty(shape(name), dtype, {}, MemoryTag::workspace);
  read(name, 0, out);
  return out;
}

MemoryWeights::MemoryWeights(std::vector<std::pair<std::string, Tensor>> tensors)
    : WeightSource("memory") {
  for (auto& [name, tensor] : tensors) {
    add({name, tensor.shape(), tensor.dtype(), name_of(tensor.dtype())});
    tensors_.push_back(std::move(tensor));
  }
}

void MemoryWeights::read_range(size_t position, int64_t begin, const Tensor& out) const {
  const Tensor& tensor = tensors_[position];
  const auto* data = static_cast<const std::byte*>(tensor.raw());
  cast_into(out, 0, stored_float(tensor.dtype()), data + begin * size_of(tensor.dtype()),
            out.numel());
}

void check_shapes(const WeightSource& source, const std::vector<ExpectedWeight>& expected) {
  std::unordered_set<std::string> known;
  std::vector<std::string> missing, unexpected, mismatched;
  for (const auto& [name, shape] : expected) {
    known.insert(name);
    if (!source.contains(name))
      missing.push_back(name + " " + shape.to_string());
    else if (!(source.shape(name) == shape))
      mismatched.push_back(fmt::format("{}: the file has {}, the config asks for {}", name,
                                       source.shape(name).to_string(), shape.to_string()));
  }
  for (const WeightInfo& weight : source.weights())
    if (!known.count(weight.name) && !harmless_extra(weight.name))
      unexpected.push_back(weight.name + " " + weight.shape.to_string());
  if (missing.empty() && unexpected.empty() && mismatched.empty()) return;
  std::string text;
  append_list(text, "missing", missing);
  append_list(text, "unexpected", unexpected);
  append_list(text, "of another shape", mismatched);
  fail(ErrorKind::bad_data, "{}: the weights do not fit the model's config:{}", source.where(),
       text);
}

}  // namespace weft::checkpoint
