#include "recipes/micro_batch_runner.h"

#include <utility>

#include "core/base/log.h"
#include "core/base/units.h"

namespace weft::recipes {
namespace {

// What a block's forward and backward launch, what a launch costs the host, and the speed that a
// GPU of today reaches at best. A replay also closes the gaps between kernels, which counts from a
// twentieth of the time on.
constexpr double kLaunchesABlock = 45, kSecondsALaunch = 6e-6, kFlopsASecond = 500e12;
constexpr double kShareThatCounts = 0.05;

}  // namespace

MicroBatchRunner::MicroBatchRunner(const Model& model, const TrainConfig& train, int64_t sequence)
    : model_(model),
      recompute_(train.recompute_plan(model.config.num_hidden_layers)),
      graphs_(train.graphs),
      sequence_(sequence) {}

bool MicroBatchRunner::is_bound_by_launches(int64_t tokens) const {
  const double flops =
      model_.config.flops_per_token(sequence_, false) * static_cast<double>(tokens);
  const double launches = kLaunchesABlock * static_cast<double>(model_.config.num_hidden_layers);
  return flops / kFlopsASecond * kShareThatCounts < launches * kSecondsALaunch;
}

// What changes from step to step may lie in the step's tensors only: a dropout's key does not, nor
// does a reduction among ranks, which runs beside the compute stream, as the copies of offloaded
// blocks do. Who offloads is bound by memory: launches are no matter there.
bool MicroBatchRunner::may_record(const nn::Step& step, bool last_micro_batch) const {
  if (model_.device.is_cpu() || graphs_ == Graphs::off || step.scored_rows.numel() == 0)
    return false;
  if (recompute_.offloaded > 0) return false;
  if (last_micro_batch && model_.units->communicator()->size() > 1) return false;
  for (const nn::Projection* projection : model_.decoder->projections())
    if (projection->dropout > 0) return false;
  return graphs_ == Graphs::on || is_bound_by_launches(step.num_tokens());
}

bool MicroBatchRunner::has_shape_of_last(const nn::Step& step) const {
  return step.scored_rows.numel() == scored_ && step.documents == documents_;
}

void MicroBatchRunner::train(const nn::Step& step, bool last_micro_batch) {
  if (!may_record(step, last_micro_batch)) {
    model_.decoder->train(step, recompute_, model_.hooks(), last_micro_batch);
    return report_offload();
  }
  if (!has_shape_of_last(step)) {
    graph_ = {};
    recorded_step_ = {};
    documents_ = step.documents;
    scored_ = step.scored_rows.numel();
    return model_.decoder->train(step, recompute_, model_.hooks(), last_micro_batch);
  }
  model_.units->gather_all();
  model_.units->zero_stale_gradients();  // the recording adds
  if (!graph_) record(step);
  replay(step);
}

void MicroBatchRunner::report_offload() {
  if (recompute_.offloaded == 0 || std::exchange(offload_reported_, true)) return;
  log::info("activations of {} of {} blocks wait in {} of host memory", recompute_.offloaded,
            recompute_.blocks, human_bytes(static_cast<double>(model_.decoder->offload_bytes())));
}

void MicroBatchRunner::record(const nn::Step& step) {
  recorded_step_ = step;
  for (Tensor* t : {&recorded_step_.ids, &recorded_step_.scored_rows, &recorded_step_.scored_labels,
                    &recorded_step_.loss_scale, &recorded_step_.loss_sum})
    *t = t->clone();
  graph_ = DeviceGraph::record(model_.device, [this] {
    model_.decoder->train(recorded_step_, recompute_, {}, /*last_micro_batch=*/false);
  });
  ++recordings_;
}

// Positions and the rotary table follow from the documents, which are the recording's.
void MicroBatchRunner::replay(const nn::Step& step) const {
  recorded_step_.ids.copy_from(step.ids);
  recorded_step_.scored_rows.copy_from(step.scored_rows);
  recorded_step_.scored_labels.copy_from(step.scored_labels);
  recorded_step_.loss_scale.copy_from(step.loss_scale);
  graph_.replay();
  step.loss_sum.copy_from(recorded_step_.loss_sum);
}

}  // namespace weft::recipes
