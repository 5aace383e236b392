#include "core/data/plan.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <span>

#include "core/base/rng.h"

namespace weft::data {
namespace {

constexpr size_t kOrderedWindow = 1024;  // examples packed together where order counts
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

using Rows = std::vector<std::vector<int64_t>>;

// Best fit: each example goes into the row that it fills best, else into a new one.
void pack(std::span<const int64_t> examples, const PlanInput& input, int64_t seq_len, Rows& rows) {
  std::map<int64_t, std::vector<size_t>> open;  // rows by the room left in them
  for (int64_t example : examples) {
    const int64_t length = input.lengths[static_cast<size_t>(example)];
    int64_t room = seq_len;
    size_t row = rows.size();
    if (const auto best = open.lower_bound(length); best != open.end()) {
      room = best->first;
      row = best->second.back();
      best->second.pop_back();
      if (best->second.empty()) open.erase(best);
    } else {
      rows.emplace_back();
    }
    rows[row].push_back(example);
    room -= length;
    if (room > 0) open[room].push_back(row);
  }
}

// Shuffled, the longest go first (best fit decreasing: at most 11/9 of the fewest rows, and their
// number depends on the lengths alone). Else rows keep near to the order of the file.
Rows pack_epoch(std::vector<int64_t> examples, const PlanInput& input, const PlanOptions& options) {
  Rows rows;
  const auto length = [&](int64_t example) { return input.lengths[static_cast<size_t>(example)]; };
  if (options.shuffle) {
    std::stable_sort(examples.begin(), examples.end(),
                     [&](int64_t a, int64_t b) { return length(a) > length(b); });
    pack(examples, input, options.seq_len, rows);
    return rows;
  }
  for (size_t begin = 0; begin < examples.size(); begin += kOrderedWindow) {
    const size_t count = std::min(kOrderedWindow, examples.size() - begin);
    pack(std::span(examples).subspan(begin, count), input, options.seq_len, rows);
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
  const Rows rows = pack_epoch(std::move(examples), input, options);
  // Rows are made by length: shuffle them too.
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
