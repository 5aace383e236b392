#include "recipes/decode_batch.h"

#include <algorithm>

#include "core/ops/argmax.h"

namespace weft::recipes {

Tensor i32_tensor(const std::vector<int32_t>& values, Device device) {
  const Tensor host = Tensor::empty({static_cast<int64_t>(values.size())}, DType::i32);
  std::copy(values.begin(), values.end(), host.data<int32_t>());
  return host.to(device);
}

DecodeBatch::DecodeBatch(const Model& model, nn::KvCache& cache,
                         const std::vector<CachePlace>& places, bool greedy)
    : model_(model), greedy_(greedy) {
  std::vector<int32_t> positions, rows, first, last;
  for (const CachePlace& p : places) {
    CHECK(p.begin + p.length < p.end && p.end <= INT32_MAX, "rows {} to {} with {} tokens", p.begin,
          p.end, p.length);
    positions.push_back(static_cast<int32_t>(p.length));
    rows.push_back(static_cast<int32_t>(p.begin + p.length));
    first.push_back(static_cast<int32_t>(p.begin));
    last.push_back(static_cast<int32_t>(p.end - 1));
    step_.decode_longest = std::max(step_.decode_longest, p.end - p.begin);
  }
  places_ = {.positions = i32_tensor(positions, model.device),
             .rows = i32_tensor(rows, model.device),
             .first_rows = i32_tensor(first, model.device),
             .last_rows = i32_tensor(last, model.device)};
  step_.mode = nn::Mode::generate;
  step_.ids = Tensor::zeros({static_cast<int64_t>(places.size())}, DType::i32, model.device);
  step_.positions = places_.positions;
  step_.cache = &cache;
  step_.cache_rows = places_.rows;
  step_.decode_first = places_.first_rows;
}

void DecodeBatch::set_ids(const std::vector<int32_t>& ids) {
  step_.ids.copy_from(i32_tensor(ids, {}));
}

void DecodeBatch::step() {
  model_.decoder->prepare(step_);
  logits_BV_ = model_.decoder->logits(step_, model_.hooks());
  if (greedy_) ops::argmax(logits_BV_, step_.ids);
  ops::advance(places_);
}

void DecodeBatch::run() {
  // The first step settles what is chosen or made at first use, which a recording cannot hold.
  if (++steps_ == 1 || model_.device.is_cpu()) return step();
  if (!graph_) graph_ = DeviceGraph::record(model_.device, [this] { step(); });
  graph_.replay();
}

}  // namespace weft::recipes
