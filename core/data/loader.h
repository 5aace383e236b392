// From a dataset to micro-batches. What a step holds is a pure function of (dataset, plan options,
// step), never of the number of ranks; ranks take disjoint rows of it.
#pragma once

#include <memory>
#include <vector>

#include "core/data/dataset.h"
#include "core/ops/attention.h"
#include "core/tensor/tensor.h"

namespace weft::data {

// T tokens of several documents one after the other, without padding. Fields as in nn::Step.
struct Batch {
  Tensor ids;         // [T] i32
  Tensor positions;   // [T] i32, from 0 in each document
  Tensor labels;      // [T] i32: the next token of the same document where it is trained on, else
                      // ops::kIgnoredLabel
  Tensor sample_ids;  // [T] i64
  std::vector<ops::AttentionDocument> documents;
  int64_t trained_tokens = 0;  // labels that are not ignored
  int64_t tokens() const { return ids.defined() ? ids.numel() : 0; }
};

// What one rank computes in one optimizer step.
struct StepData {
  int64_t step = 0;                  // from 0
  double epoch = 0;                  // passed through when the step is done
  std::vector<Batch> micro_batches;  // this rank's; some may be empty in the last step of an epoch
  int64_t trained_tokens = 0;  // of the whole global batch, all ranks: the divisor of the loss
  int64_t tokens = 0;          // of the whole global batch
};

struct PlanOptions {
  int64_t seq_len = 0;  // most tokens in a row
  bool packing = true;  // several documents a row (best fit), else one
  bool shuffle = true;
  uint64_t seed = 0;
  int64_t global_batch = 1;  // rows a step
};

struct LoaderLayout {
  int rank = 0;  // on the data axis
  int size = 1;
  int64_t micro_batch =
      1;  // rows a rank and micro-step; global_batch is a multiple of size * micro_batch
};

class Loader {
 public:
  // Throws bad_data when the dataset is empty or has nothing to train on, usage when the ranks do
  // not divide the batch (naming numbers that do).
  Loader(std::shared_ptr<const Dataset> dataset, const PlanOptions& plan,
         const LoaderLayout& layout);
  ~Loader();

  int64_t steps_per_epoch()
      const;  // of the first epoch; the last step of an epoch may hold fewer rows
  // Steps that end when `epochs` passes are made.
  int64_t steps_in(double epochs) const;

  // Prepared by a background thread when steps are asked for in order; any step may be asked for
  // (resume).
  StepData step(int64_t number);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// All of `dataset` once, in order, in batches of at most `max_tokens` tokens (at least one example
// each): for evaluation. Examples [begin, end).
Batch evaluation_batch(const Dataset& dataset, int64_t begin, int64_t end);

}  // namespace weft::data
