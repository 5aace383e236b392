#include "core/data/batch.h"

#include <algorithm>

#include "core/ops/cross_entropy.h"

namespace weft::data {

Batch make_batch(const Dataset& dataset, std::span<const int64_t> examples) {
  int64_t tokens = 0;
  for (int64_t index : examples) tokens += static_cast<int64_t>(dataset.example(index).ids.size());
  Batch batch;
  batch.ids = Tensor::empty({tokens}, DType::i32);
  batch.positions = Tensor::empty({tokens}, DType::i32);
  batch.labels = Tensor::empty({tokens}, DType::i32);
  batch.sample_ids = Tensor::empty({tokens}, DType::i64);
  int64_t at = 0;
  for (int64_t index : examples) {
    const ExampleView example = dataset.example(index);
    const int64_t length = static_cast<int64_t>(example.ids.size());
    if (length == 0) continue;
    std::copy(example.ids.begin(), example.ids.end(), batch.ids.data<int32_t>() + at);
    for (int64_t i = 0; i < length; ++i) {
      const bool scored = i + 1 < length && example.trained[static_cast<size_t>(i) + 1];
      batch.positions.data<int32_t>()[at + i] = static_cast<int32_t>(i);
      batch.labels.data<int32_t>()[at + i] =
          scored ? example.ids[static_cast<size_t>(i) + 1] : ops::kIgnoredLabel;
      batch.sample_ids.data<int64_t>()[at + i] = index;
      batch.trained_tokens += scored;
    }
    batch.documents.push_back({.q_begin = at, .q_len = length, .kv_begin = at, .kv_len = length});
    at += length;
  }
  return batch;
}

int64_t trained_tokens(const ExampleView& example) {
  int64_t count = 0;
  for (size_t i = 1; i < example.trained.size(); ++i) count += example.trained[i] != 0;
  return count;
}

Batch evaluation_batch(const Dataset& dataset, int64_t begin, int64_t end) {
  std::vector<int64_t> examples;
  for (int64_t i = begin; i < end; ++i) examples.push_back(i);
  return make_batch(dataset, examples);
}

}  // namespace weft::data
