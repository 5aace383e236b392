// Which examples make which rows of which step: a pure function of (seed, epoch, lengths, weights).
#pragma once

#include <cstdint>
#include <vector>

#include "core/data/dataset.h"
#include "core/data/loader.h"

namespace weft::data {

// The rows of one epoch, in the order in which they are trained on.
struct EpochPlan {
  std::vector<int64_t> examples;    // of all rows, row after row
  std::vector<int64_t> row_begins;  // index into examples, one more than there are rows

  int64_t num_rows() const { return static_cast<int64_t>(row_begins.size()) - 1; }
};

// What of the dataset the plan depends on, taken once.
struct PlanInput {
  std::vector<int64_t> lengths;  // tokens of each example
  std::vector<double> weights;   // how often an epoch sees it; a fraction is a seeded chance
};
PlanInput plan_input(const Dataset& dataset);

// Rows of at most options.seq_len tokens, packed by best fit, the longest examples first (Johnson
// 1973), in O(n log n). Where every weight is a whole number, all epochs have as many rows.
// REQUIRES: no example is longer than seq_len.
EpochPlan plan_epoch(const PlanInput& input, const PlanOptions& options, int64_t epoch);

// A permutation of 0..n-1 by sorting on Philox draws keyed by (seed, epoch, salt).
std::vector<int64_t> permutation(int64_t n, uint64_t seed, int64_t epoch, uint64_t salt);

}  // namespace weft::data
