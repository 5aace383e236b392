// What an optimizer step does, decided where the gradients are so that no host needs to wait:
// clipping by the global norm, the no-op for what is not finite, Adam's bias corrections, and
// dynamic loss scaling (Micikevicius et al. 2018, sec. 3.2).
#pragma once

#include "core/tensor/tensor.h"

namespace weft::ops {

// Elements of UpdateControlArgs::progress, [3] f64.
enum class Progress { updates, loss_scale, updates_at_scale, count_ };
// Of UpdateControlArgs::control, [5] f32.
enum class Control { grad_factor, update, m_correction, v_correction, loss_scale, count_ };
// Of UpdateControlArgs::report, [5] f64.
enum class StepReport { loss_sum, grad_norm, updated, updates, loss_scale, count_ };

struct UpdateControlArgs {
  // [ranks, shards + losses] f64 in rank order: the sum of squares of each shard's gradient, then
  // sums of the loss. Added in shard, then rank order, so that every rank gets the same bits.
  const Tensor& gathered;
  int64_t shards = 0;
  const Tensor& progress;  // the updates made, the loss scale and how many it has lasted: updated
  const Tensor& control;   // =, for ops::adamw; loss_scale is the next step's
  const Tensor& report;    // =; grad_norm is before clipping and free of the scale, NaN or infinite
                           // where gradients are; loss_scale is this step's
  double max_norm = 0;     // factor max_norm / (norm + 1e-6) where below 1 (torch's
                           // clip_grad_norm_); 0: no clipping
  double beta1 = 0.9;      // the corrections are 1 / (1 - beta1^t) and 1 / sqrt(1 - beta2^t)
  double beta2 = 0.999;
  int64_t scale_window = 0;  // > 0: the scale doubles after so many updates in a row (to 2^24 at
                             // most), and halves (to 1 at least) at a step that is not finite
};
void update_control(const UpdateControlArgs& args);

namespace cpu {
void update_control(const UpdateControlArgs& args);
}  // namespace cpu
namespace cuda {
void update_control(const UpdateControlArgs& args);
}  // namespace cuda

}  // namespace weft::ops
