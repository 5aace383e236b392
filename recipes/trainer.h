// The training loop: data, step, evaluation, checkpoints, until the run's end or a wish to stop.
#pragma once

#include <chrono>
#include <memory>

#include "checkpoint/run_folder.h"
#include "core/data/loader.h"
#include "core/nn/weight_grads.h"
#include "core/telemetry/telemetry.h"
#include "optim/adamw.h"
#include "optim/schedule.h"
#include "recipes/evaluator.h"
#include "recipes/model.h"
#include "recipes/run_config.h"
#include "recipes/train_state.h"

namespace weft::recipes {

struct TrainerParts {
  const RunConfig& config;
  parallel::Communicator& world;
  Model& model;
  std::shared_ptr<const data::Dataset> train;
  std::shared_ptr<const data::Dataset> eval;  // null: none
  checkpoint::RunFolder& folder;
  telemetry::Telemetry& telemetry;
  Json base_model;  // identity of a frozen base, for the checkpoint
};

class Trainer {
 public:
  explicit Trainer(TrainerParts parts);

  // From the newest checkpoint, or the start, to the end. Throws try_again when a stop was
  // requested and a checkpoint is committed; bad_data after too many non-finite steps in a row.
  void run();
  // So many steps without evaluations and checkpoints, for `weft bench`. All is done on return.
  void run_steps(int64_t steps);

  // Of all ranks together, before file overhead.
  int64_t checkpoint_bytes() const;
  const TrainState& state() const { return state_; }
  int64_t total_steps() const { return total_steps_; }
  const Evaluation& last_evaluation() const { return last_evaluation_; }

 private:
  // What all ranks agree on after a step.
  struct StepResult {
    double loss = 0;  // mean over the trained tokens of the global batch
    double grad_norm = 0;
    bool updated = true;
    bool stop = false;      // a rank was asked to stop
    bool save_due = false;  // rank 0's clock says so
    double seconds = 0;     // rank 0\'s clock since the step before
  };
  bool resume();
  data::StepData next_data();
  StepResult step(const data::StepData& data);
  void finish_publishing();
  nn::HeadLoss forward_backward(const data::StepData& data);
  StepResult agree_and_update(const nn::HeadLoss& loss, const data::StepData& data);
  void count(const StepResult& result, const data::StepData& data);
  void report(const StepResult& result, const data::StepData& data, double seconds);
  void evaluate_now();
  bool evaluation_due(bool last) const;
  void save();
  bool clock_says_save() const;
  bool out_of_time() const;
  bool finished() const;

  TrainerParts parts_;
  std::shared_ptr<const data::Dataset> train_;
  data::Loader loader_;
  int64_t total_steps_ = 0;
  optim::Schedule schedule_;
  optim::Adamw optimizer_;
  nn::WeightGrads weight_grads_;
  TrainState state_;
  int64_t saved_step_ = -1;
  std::chrono::steady_clock::time_point last_save_;
  Evaluation last_evaluation_;
  std::chrono::steady_clock::time_point last_step_;
  double last_lr_ = 0;
};

}  // namespace weft::recipes
