#include "recipes/train_config.h"

#include <cmath>

#include "core/base/error.h"

namespace weft::recipes {
namespace {

void visit_numbers(TrainConfig& t, ConfigVisitor& v) {
  v.field("device", t.device, kDeviceNames, "where the model lives").may_change();
  v.field("dtype", t.dtype, kPrecisionNames,
          "of weights and activations; `auto`: bf16 where the machine multiplies it natively, else "
          "fp16 on a GPU (with dynamic loss scaling) and fp32 on a CPU");
  v.field("gradient_dtype", t.gradient_dtype, kStatePrecisionNames,
          "of accumulated gradients; `auto`: fp32 unless one bf16 micro-batch is a step");
  v.field("master_weights", t.master_weights, kMasterWeightsNames,
          "fp32: 16-bit weights are copies of fp32 ones; none: bf16 weights are the only ones, "
          "rounded stochastically");
  v.field("optimizer_dtype", t.optimizer_dtype, kStatePrecisionNames,
          "of AdamW's m and v; bf16 is rounded stochastically; `auto`: fp32");
  v.field("loss_scale", t.loss_scale, "fp16: the loss is multiplied by it at first").at_least(1);
  v.field("scale_window", t.scale_window,
          "fp16: the loss scale doubles after so many updates in a row; a step that is not finite "
          "halves it")
      .at_least(1);
  v.field("deterministic", t.deterministic,
          "the same run gives the same bits; false takes what is faster");
  v.field(
       "graphs", t.graphs, kGraphsNames,
       "record a GPU's micro-batches of one shape and replay them (the same bits); `auto`: where "
       "launches would take longer than the work")
      .may_change();
  v.field("memory_limit", t.memory_limit,
          "what a run takes of a GPU that others use too, at most (\"40GiB\"); 0: all of it")
      .may_change();
  v.field("tf32", t.tf32, "GPUs round fp32 operands of products to TF32 (10 bits); CPUs never do");
  v.field("algorithm_cache", t.algorithm_cache,
          "folder of the timed algorithms of GPU products; empty: the user's; `none`: do not time")
      .may_change();
  v.field("threads", t.threads, "threads a rank; `auto`: its share of the host's cores")
      .at_least(1)
      .word_for("auto", 0)
      .may_change();
}

void visit_steps(TrainConfig& t, ConfigVisitor& v) {
  v.field("micro_batch", t.micro_batch,
          "rows that a rank computes at once: memory, not mathematics (changes only rounding)")
      .at_least(1)
      .may_change();
  v.field("global_batch", t.global_batch, "rows in one optimizer step, over all ranks").at_least(1);
  v.field("max_steps", t.max_steps, "optimizer steps; 0: as `epochs` says")
      .at_least(0)
      .may_change();
  v.field("epochs", t.epochs, "passes over the data (1 when max_steps is not given either)")
      .at_least(0)
      .may_change();
  v.field("max_time", t.max_time,
          "end the run after so much time (\"5min\"), resumed parts together; 0: no limit")
      .may_change();
}

void visit_updates(TrainConfig& t, ConfigVisitor& v) {
  v.field("lr", t.lr, "peak learning rate").above(0);
  v.field("min_lr_ratio", t.min_lr_ratio, "the schedule ends at lr times this").between(0, 1);
  v.field("schedule", t.schedule, kScheduleNames,
          "of the learning rate after warm-up; `wsd`: constant, then a linear decay");
  v.field("warmup", t.warmup, "steps in which the learning rate rises from 0").at_least(0);
  v.field("warmup_ratio", t.warmup_ratio, "the same as a share of all steps").between(0, 1);
  v.field("decay_ratio", t.decay_ratio, "`wsd`: share of all steps in which the rate decays")
      .between(0, 1);
  v.field("weight_decay", t.weight_decay, "decoupled (AdamW); not on norms and biases").at_least(0);
  v.field("beta1", t.beta1, "AdamW: memory of the mean gradient").between(0, 0.99999);
  v.field("beta2", t.beta2, "AdamW: memory of the squared gradient").between(0, 0.9999999);
  v.field("eps", t.eps, "AdamW: added to the denominator").above(0);
  v.field("max_grad_norm", t.max_grad_norm, "gradients are scaled down to this norm; 0: not")
      .at_least(0);
  v.field("seed", t.seed, "of new weights and dropout");
}

void visit_activations(TrainConfig& t, ConfigVisitor& v) {
  v.field("recompute", t.recompute, kRecomputeNames,
          "`full`: keep only each block's input and compute the rest again in backward")
      .may_change();
  v.field("recompute_layers", t.recompute_layers,
          "recompute so in the first blocks only, in the others what is cheaper (selective after "
          "full, none after selective); 0: in all")
      .at_least(0)
      .may_change();
  v.field("offload_layers", t.offload_layers,
          "activations of so many blocks, spread over the depth, wait in host memory instead of "
          "being kept on the GPU; `full` does not recompute these blocks (it does `selective`)")
      .at_least(0)
      .may_change();
}

void visit_evaluations(TrainConfig& t, ConfigVisitor& v) {
  v.field("eval_every", t.eval_every, "held-out evaluation every so many steps; 0: only at the end")
      .at_least(0)
      .may_change();
  v.field("eval_records", t.eval_records, "held-out records used, from the first; 0: all")
      .at_least(0);
  v.field("early_stop", t.early_stop,
          "stop after so many evaluations without a lower loss; 0: never")
      .at_least(0)
      .may_change();
  v.field("max_bad_steps", t.max_bad_steps,
          "stop after so many steps in a row whose loss or gradient is not finite")
      .at_least(1)
      .may_change();
}

}  // namespace

int64_t TrainConfig::warmup_steps(int64_t total_steps) const {
  if (warmup > 0) return warmup;
  return static_cast<int64_t>(std::ceil(warmup_ratio * static_cast<double>(total_steps)));
}

models::RecomputePlan TrainConfig::recompute_plan(int64_t blocks) const {
  if (offload_layers > blocks)
    fail(ErrorKind::usage, "train.offload_layers is {}, but the model has {} blocks",
         offload_layers, blocks);
  models::RecomputePlan plan = recompute;
  if (recompute_layers > 0) plan.layers = static_cast<size_t>(recompute_layers);
  return plan.with_offload(static_cast<size_t>(offload_layers), static_cast<size_t>(blocks));
}

void TrainConfig::visit(ConfigVisitor& v) {
  visit_numbers(*this, v);
  visit_steps(*this, v);
  visit_updates(*this, v);
  visit_activations(*this, v);
  visit_evaluations(*this, v);
}

void TrainConfig::check() const {
  if (max_steps > 0 && epochs > 0)
    fail(ErrorKind::usage, "train.max_steps ({}) and train.epochs ({}) both end the run: keep one",
         max_steps, epochs);
  if (warmup > 0 && warmup_ratio > 0)
    fail(ErrorKind::usage, "train.warmup ({}) and train.warmup_ratio ({}) both say it: keep one",
         warmup, warmup_ratio);
  if (max_steps > 0 && warmup > max_steps)
    fail(ErrorKind::usage, "train.warmup ({}) is longer than train.max_steps ({})", warmup,
         max_steps);
  if (schedule == Schedule::wsd && warmup_ratio + decay_ratio > 1)
    fail(ErrorKind::usage, "train.warmup_ratio ({}) and train.decay_ratio ({}) exceed 1 together",
         warmup_ratio, decay_ratio);
  if (dtype == Precision::fp16 && gradient_dtype == Precision::bf16)
    fail(ErrorKind::usage, "train.gradient_dtype=bf16 does not go with train.dtype=fp16: use fp32");
  if (master_weights == MasterWeights::none && dtype == Precision::fp16)
    fail(ErrorKind::usage,
         "train.master_weights=none needs bf16 weights: fp16 cannot hold small updates");
  if (micro_batch > global_batch)
    fail(ErrorKind::usage, "train.micro_batch ({}) is larger than train.global_batch ({})",
         micro_batch, global_batch);
}

}  // namespace weft::recipes
