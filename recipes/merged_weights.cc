#include "recipes/merged_weights.h"

#include <algorithm>
#include <map>

#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"

namespace weft::recipes {
namespace {

bool is_adapter(const nn::Parameter& p) {
  return p.name.find(".lora_") != std::string::npos;
}

}  // namespace

MergedWeights::MergedWeights(const Model& model) : WeightSource(model.path) {
  std::map<std::string, const nn::ProjectionMember*> adapted;
  for (const nn::Projection* projection : model.decoder->projections())
    for (const nn::ProjectionMember& member : projection->members())
      if (member.adapter) adapted[member.weight->name] = &member;
  for (const nn::ParameterPtr& p : model.decoder->parameters()) {
    if (is_adapter(*p)) continue;
    add({.name = p->name, .shape = p->shape, .dtype = p->dtype, .stored_as = name_of(p->dtype)});
    parameters_.push_back(p);
    const auto it = adapted.find(p->name);
    members_.push_back(it == adapted.end() ? nullptr : it->second);
  }
}

Tensor MergedWeights::merged_rows(const nn::ProjectionMember& member, int64_t begin,
                                  int64_t end) const {
  const nn::Adapter& adapter = *member.adapter;
  Tensor rows = ops::cast(member.weight->value.rows(begin, end), DType::f32, MemoryTag::workspace);
  const Tensor a = ops::cast(adapter.a->value, DType::f32, MemoryTag::workspace);
  const Tensor b = ops::cast(adapter.b->value.rows(begin, end), DType::f32, MemoryTag::workspace);
  ops::matmul(b, a, rows, {.alpha = adapter.scale, .accumulate = true});
  if (!adapter.magnitude) return rows;
  const Tensor norms = ops::row_norms(rows);
  const float* norm = norms.data<float>();
  const Tensor magnitude = ops::cast(adapter.magnitude->value.rows(begin, end), DType::f32);
  for (int64_t i = 0; i < end - begin; ++i)
    ops::scale_in_place(rows.rows(i, i + 1), magnitude.data<float>()[i] / norm[i]);
  return rows;
}

void MergedWeights::read_range(size_t position, int64_t begin, const Tensor& out) const {
  const Tensor& value = parameters_[position]->value;
  const int64_t count = out.numel();
  if (!members_[position] || count == 0)
    return ops::cast(value.flat(begin, {count}), out.reshape({count}));
  constexpr int64_t kRowsAtOnce = 1024;
  const int64_t cols = value.dim(1), end = begin + count;
  for (int64_t row = begin / cols; row * cols < end;) {
    const int64_t next = std::min({row + kRowsAtOnce, (end + cols - 1) / cols, value.dim(0)});
    const Tensor rows = merged_rows(*members_[position], row, next);
    const int64_t from = std::max(begin, row * cols), to = std::min(end, next * cols);
    ops::cast(rows.reshape({rows.numel()}).flat(from - row * cols, {to - from}),
              out.reshape({count}).flat(from - begin, {to - from}));
    row = next;
  }
}

checkpoint::MemoryWeights adapter_weights(const Model& model) {
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const nn::ParameterPtr& p : model.decoder->parameters())
    if (is_adapter(*p)) tensors.emplace_back(p->name, p->value);
  return checkpoint::MemoryWeights(std::move(tensors));
}

}  // namespace weft::recipes
