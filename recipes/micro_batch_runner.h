// Forward and backward of micro-batches. On a GPU that would wait for launches, those of one shape
// are recorded the second time and replayed from then on: the same kernels in the same order, so
// the same bits.
#pragma once

#include <vector>

#include "core/tensor/device_graph.h"
#include "recipes/model.h"
#include "recipes/train_config.h"

namespace weft::recipes {

class MicroBatchRunner {
 public:
  // `sequence`: data.seq_len.
  MicroBatchRunner(const Model& model, const TrainConfig& train, int64_t sequence);

  // Decoder::train of a prepared step.
  void train(const nn::Step& step, bool last_micro_batch);
  // Recordings made so far.
  int64_t recordings() const { return recordings_; }

 private:
  bool may_record(const nn::Step& step, bool last_micro_batch) const;
  bool is_bound_by_launches(int64_t tokens) const;
  bool has_shape_of_last(const nn::Step& step) const;
  void report_offload();  // once
  void record(const nn::Step& step);
  void replay(const nn::Step& step) const;

  const Model& model_;
  models::RecomputePlan recompute_;
  Graphs graphs_;
  int64_t sequence_;
  // Of the last micro-batch that might have been recorded.
  std::vector<ops::AttentionDocument> documents_;
  int64_t scored_ = -1;
  nn::Step recorded_step_;  // the tensors that the recording reads and writes
  DeviceGraph graph_;
  int64_t recordings_ = 0;
  bool offload_reported_ = false;
};

}  // namespace weft::recipes
