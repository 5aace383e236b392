// The training loop: data, step, evaluation, checkpoints, until the run's end or a wish to stop. On
// a GPU the host runs a step ahead: it gives the device the next step before it reads the numbers
// of the last. Evaluations, checkpoints and the end wait for all of them.
#pragma once

#include <chrono>
#include <memory>

#include "checkpoint/run_folder.h"
#include "core/data/loader.h"
#include "core/nn/weight_grads.h"
#include "core/telemetry/telemetry.h"
#include "core/tensor/readback.h"
#include "optim/adamw.h"
#include "optim/schedule.h"
#include "recipes/evaluator.h"
#include "recipes/micro_batch_runner.h"
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
  // What the hosts of all ranks agree on with each step.
  struct Wishes {
    bool stop = false;   // a rank was asked to stop
    bool save = false;   // rank 0's clock says so
    double seconds = 0;  // rank 0's clock since the step before
  };
  // A step that the device was given; its numbers (ops::StepReport) are on their way.
  struct Launched {
    int64_t step = 0;  // with it, so many are done
    double epoch = 0;
    int64_t tokens = 0, trained_tokens = 0;
    double lr = 0;
    Readback report;
  };
  // The numbers of a step.
  struct StepResult {
    double loss = 0;  // mean over the trained tokens of the global batch
    double grad_norm = 0;
    bool updated = true;
    int64_t updates = 0;
    double loss_scale = 1;
  };
  bool resume();
  data::StepData next_data();
  void launch(const data::StepData& data);
  void settle();  // reads the numbers of what was launched; throws what they mean
  Wishes agree();
  void finish_publishing();
  void forward_backward(const data::StepData& data, const Tensor& loss_sums);
  void count(const Launched& launched, const StepResult& result);
  void report(const Launched& launched, const StepResult& result);
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
  MicroBatchRunner runner_;
  nn::WeightGrads weight_grads_;
  TrainState state_;
  Launched launched_;  // pending, or of nothing
  int64_t saved_step_ = -1;
  std::chrono::steady_clock::time_point last_save_;
  int64_t steps_here_ = 0;                          // of this process
  int64_t early_requests_ = 0, late_requests_ = 0;  // for memory: up to the second of them, then
  Evaluation last_evaluation_;
  std::chrono::steady_clock::time_point last_step_;     // was launched
  std::chrono::steady_clock::time_point last_settled_;  // or the work between steps was over
};

}  // namespace weft::recipes
