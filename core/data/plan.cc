#include "core/data/plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "core/base/rng.h"

namespace weft::data {
namespace {

constexpr size_t kOpenRows = 4096;
constexpr uint64_t kExampleSalt = 1, kRowSalt = 2, kRepeatSalt = 3;

uint64_t draw(uint64_t index, uint64_t key) {
  const PhiloxCounter r = philox(
      {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), 0, 0}, philox_key(key));
  return (uint64_t{r[1]} << 32) | r[0];
}

uint64_t key_of(uint64_t seed, int64_t epoch, uint64_t salt) {
  return mix(mix(seed, static_cast<uint64_t>(epoch)), salt);
}

// Each example as often as its weight says.
std::vector<int64_t> repeated(const PlanInput& input, const PlanOptions& options, int64_t epoch) {
  const uint64_t key = key_of(options.seed, epoch, kRepeatSalt);
  std::vector<int64_t> examples;
  examples.reserve(input.lengths.size());
  for (size_t i = 0; i < input.lengths.size(); ++i) {
    const double whole = std::floor(input.weights[i]), part = input.weights[i] - whole;
    const bool extra = part > 0 && static_cast<double>(draw(i, key) >> 11) * 0x1p-53 < part;
    examples.insert(examples.end(), static_cast<size_t>(whole) + extra, static_cast<int64_t>(i));
  }
  return examples;
}

std::vector<std::vector<int64_t>> pack(const std::vector<int64_t>& examples, const PlanInput& input,
                                       int64_t seq_len) {
  std::vector<std::vector<int64_t>> rows;
  std::set<std::pair<int64_t, size_t>> open;  // (room left, row)
  std::set<std::pair<size_t, int64_t>> by_age;
  for (int64_t example : examples) {
    const int64_t length = input.lengths[static_cast<size_t>(example)];
    int64_t room = seq_len;
    size_t row = rows.size();
    if (const auto best = open.lower_bound({length, 0}); best != open.end()) {
      room = best->first;
      row = best->second;
      open.erase(best);
      by_age.erase({row, room});
    } else {
      rows.emplace_back();
    }
    rows[row].push_back(example);
    room -= length;
    if (room <= 0) continue;
    open.insert({room, row});
    by_age.insert({row, room});
    if (open.size() > kOpenRows) {
      const auto oldest = by_age.begin();
      open.erase({oldest->second, oldest->first});
      by_age.erase(oldest);
    }
  }
  return rows;
}

}  // namespace

std::vector<int64_t> permutation(int64_t n, uint64_t seed, int64_t epoch, uint64_t salt) {
  const uint64_t key = key_of(seed, epoch, salt);
  std::vector<std::pair<uint64_t, int64_t>> order(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i)
    order[static_cast<size_t>(i)] = {draw(static_cast<uint64_t>(i), key), i};
  std::sort(order.begin(), order.end());
  std::vector<int64_t> result;
  result.reserve(order.size());
  for (const auto& [_, i] : order) result.push_back(i);
  return result;
}

PlanInput plan_input(const Dataset& dataset) {
  PlanInput input;
  for (int64_t i = 0; i < dataset.size(); ++i) {
    input.lengths.push_back(static_cast<int64_t>(dataset.example(i).ids.size()));
    input.weights.push_back(dataset.weight(i));
  }
  return input;
}

EpochPlan plan_epoch(const PlanInput& input, const PlanOptions& options, int64_t epoch) {
  std::vector<int64_t> examples = repeated(input, options, epoch);
  if (options.shuffle) {
    std::vector<int64_t> shuffled;
    shuffled.reserve(examples.size());
    for (int64_t i :
         permutation(static_cast<int64_t>(examples.size()), options.seed, epoch, kExampleSalt))
      shuffled.push_back(examples[static_cast<size_t>(i)]);
    examples = std::move(shuffled);
  }
  EpochPlan plan;
  plan.row_begins.push_back(0);
  if (!options.packing) {
    for (size_t i = 0; i < examples.size(); ++i)
      plan.row_begins.push_back(static_cast<int64_t>(i) + 1);
    plan.examples = std::move(examples);
    return plan;
  }
  const std::vector<std::vector<int64_t>> rows = pack(examples, input, options.seq_len);
  // Rows fill up in an order of their own (full ones late): shuffle them too.
  const int64_t n = static_cast<int64_t>(rows.size());
  std::vector<int64_t> order(rows.size());
  std::iota(order.begin(), order.end(), 0);
  if (options.shuffle) order = permutation(n, options.seed, epoch, kRowSalt);
  for (int64_t r : order) {
    const auto& row = rows[static_cast<size_t>(r)];
    plan.examples.insert(plan.examples.end(), row.begin(), row.end());
    plan.row_begins.push_back(static_cast<int64_t>(plan.examples.size()));
  }
  return plan;
}

}  // namespace weft::data
