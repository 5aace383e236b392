#include "recipes/trainer.h"

#include <cmath>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/log.h"
#include "core/telemetry/trace.h"
#include "optim/clip.h"
#include "recipes/batch_step.h"

namespace weft::recipes {
namespace {

using Clock = std::chrono::steady_clock;

optim::Schedule schedule_of(const TrainConfig& train, int64_t total_steps) {
  return {.kind = train.schedule,
          .lr = train.lr,
          .warmup_steps = train.warmup_steps(total_steps),
          .total_steps = total_steps,
          .decay_steps = std::llround(train.decay_ratio * static_cast<double>(total_steps)),
          .min_ratio = train.min_lr_ratio};
}

int64_t steps_of(const TrainConfig& train, const data::Loader& loader) {
  const bool by_steps = train.max_steps > 0, by_epochs = train.epochs > 0 || !by_steps;
  const int64_t epochs =
      by_epochs ? loader.steps_in(train.epochs > 0 ? train.epochs : 1) : INT64_MAX;
  return by_steps ? std::min(train.max_steps, epochs) : epochs;
}

data::PlanOptions plan_of(const RunConfig& config) {
  return {.seq_len = config.data.seq_len,
          .packing = config.data.packing,
          .shuffle = config.data.shuffle,
          .seed = static_cast<uint64_t>(config.data.seed),
          .global_batch = config.train.global_batch};
}

}  // namespace

Trainer::Trainer(TrainerParts parts)
    : parts_(std::move(parts)),
      train_(parts_.train),
      loader_(train_, plan_of(parts_.config),
              {.rank = parts_.world.rank(),
               .size = parts_.world.size(),
               .micro_batch = parts_.config.train.micro_batch}),
      total_steps_(steps_of(parts_.config.train, loader_)),
      schedule_(schedule_of(parts_.config.train, total_steps_)),
      optimizer_(parts_.model.units->shards(), {.beta1 = parts_.config.train.beta1,
                                                .beta2 = parts_.config.train.beta2,
                                                .eps = parts_.config.train.eps,
                                                .weight_decay = parts_.config.train.weight_decay}),
      last_save_(Clock::now()) {
  optimizer_.take_values();
  state_.data_hash = train_->hash();
}

bool Trainer::resume() {
  if (parts_.config.checkpoint.resume == checkpoint::Resume::never) {
    parts_.folder.require_no_checkpoint();
    return false;
  }
  const auto step = parts_.folder.resume([this](const checkpoint::NativeCheckpoint& saved) {
    const auto before = config_from_json<RunConfig>(saved.manifest().config, saved.folder());
    check_resume(config_differences(before, parts_.config), saved.folder());
    const Json& base = saved.manifest().base_model;
    if (!(base == parts_.base_model))
      fail(ErrorKind::usage,
           "{} was trained on another base model: {} then, {} now. Use that base, or another "
           "output_dir",
           saved.folder(), base.dump(), parts_.base_model.dump());
    const TrainState then = TrainState::from_json(saved.manifest().trainer);
    if (then.data_hash != train_->hash())
      fail(ErrorKind::usage,
           "{} was trained on other data (fingerprint {} then, {} now): a resumed run must see the "
           "same records. Restore them, or use another output_dir",
           saved.folder(), then.data_hash, train_->hash());
    read_pieces(saved, parts_.model.units->value_pieces());
    read_pieces(saved, optimizer_.states());
    state_ = then;
  });
  if (!step) return false;
  optimizer_.set_updates(state_.updates);
  parts_.model.units->publish();
  parts_.model.units->gather_all();
  saved_step_ = state_.step;
  return true;
}

bool Trainer::out_of_time() const {
  const double limit = parts_.config.train.max_time.seconds;
  return limit > 0 && state_.seconds >= limit;
}

bool Trainer::finished() const {
  const int64_t patience = parts_.config.train.early_stop;
  return state_.step >= total_steps_ || out_of_time() ||
         (patience > 0 && state_.evaluations_since_best >= patience);
}

void Trainer::run() {
  if (resume()) {
    if (finished())
      return log::info("all is done: {} steps in {}", state_.step, parts_.folder.path());
    log::info("resumed from step {} of {}", state_.step, total_steps_);
  }
  parts_.telemetry.start(state_.step, total_steps_);
  last_step_ = Clock::now();
  while (!finished()) {
    const telemetry::StepSpan traced;
    const Clock::time_point begin = Clock::now();
    const data::StepData data = next_data();
    const StepResult result = step(data);
    count(result, data);
    report(result, data, std::chrono::duration<double>(Clock::now() - begin).count());
    if (!result.stop && evaluation_due(finished())) evaluate_now();
    const int64_t every = parts_.config.checkpoint.every_steps;
    const bool last = finished();
    if (last || result.stop || result.save_due || (every > 0 && state_.step % every == 0)) save();
    if (result.stop && !last) {
      finish_publishing();
      fail(ErrorKind::try_again,
           "stopped at step {} of {} as asked; the checkpoint is committed: the same command goes "
           "on",
           state_.step, total_steps_);
    }
  }
  finish_publishing();
  if (out_of_time())
    log::info("train.max_time is over after {} of {} steps", state_.step, total_steps_);
  else if (state_.step < total_steps_)
    log::info("stopped early: no better held-out loss since step {}", state_.best_step);
}

void Trainer::run_steps(int64_t steps) {
  for (int64_t i = 0; i < steps; ++i) {
    const telemetry::StepSpan traced;
    const data::StepData data = next_data();
    const StepResult result = step(data);
    count(result, data);
  }
  finish_publishing();
}

data::StepData Trainer::next_data() {
  const telemetry::Span span("data");
  return loader_.step(state_.step);
}

// At the end of a run nothing may be under way, nor a rank left waiting for what another sends.
void Trainer::finish_publishing() {
  parts_.model.units->gather_all();
  parts_.world.barrier("end of training");
}

nn::HeadLoss Trainer::forward_backward(const data::StepData& data) {
  const Model& model = parts_.model;
  model.units->zero_gradients();
  nn::HeadLoss total;
  for (size_t i = 0; i < data.micro_batches.size(); ++i) {
    if (data.micro_batches[i].tokens() == 0) continue;
    nn::Step step = make_step(data.micro_batches[i], nn::Mode::train, model);
    step.loss_scale = 1.0f / static_cast<float>(std::max<int64_t>(data.trained_tokens, 1));
    step.seed = static_cast<uint64_t>(parts_.config.train.seed);
    step.number = static_cast<uint64_t>(data.step);
    step.weight_grads = &weight_grads_;
    const bool last = i + 1 == data.micro_batches.size();
    const nn::HeadLoss loss =
        model.decoder->train(step, parts_.config.train.recompute, model.hooks(), last);
    total.sum += loss.sum;
    total.tokens += loss.tokens;
  }
  model.units->finish_reduce();
  return total;
}

Trainer::StepResult Trainer::step(const data::StepData& data) {
  return agree_and_update(forward_backward(data), data);
}

// One gather of a few numbers from every rank: the norm's parts, the loss, and the wishes of
// ranks.
Trainer::StepResult Trainer::agree_and_update(const nn::HeadLoss& loss,
                                              const data::StepData& data) {
  const telemetry::Span span("optimizer");
  constexpr int64_t kExtra = 4;
  const Tensor squares = optim::sums_of_squares(optimizer_.shards());
  const int64_t n = squares.numel(), ranks = parts_.world.size();
  Tensor mine = Tensor::empty({n + kExtra}, DType::f64);
  std::copy_n(squares.data<double>(), n, mine.data<double>());
  double* extra = mine.data<double>() + n;
  extra[0] = loss.sum;
  extra[1] = stop_requested() ? 1 : 0;
  extra[2] = parts_.world.rank() == 0 && clock_says_save() ? 1 : 0;
  const Clock::time_point now = Clock::now();
  extra[3] = std::chrono::duration<double>(now - last_step_).count();
  last_step_ = now;
  Tensor all = Tensor::empty({ranks, n + kExtra}, DType::f64);
  parts_.world.all_gather(mine, all, "step result").wait();

  StepResult result;
  Tensor gathered = Tensor::empty({ranks, n}, DType::f64);
  double loss_sum = 0;
  for (int64_t r = 0; r < ranks; ++r) {
    const double* row = all.data<double>() + r * (n + kExtra);
    std::copy_n(row, n, gathered.data<double>() + r * n);
    loss_sum += row[n];
    result.stop |= row[n + 1] != 0;
    result.save_due |= row[n + 2] != 0;
  }
  result.seconds = all.data<double>()[n + 3];
  result.loss = loss_sum / static_cast<double>(std::max<int64_t>(data.trained_tokens, 1));
  const optim::Clip clip =
      optim::clip(gathered, parts_.config.train.max_grad_norm, std::isfinite(loss_sum));
  result.grad_norm = clip.norm;
  result.updated = clip.finite && std::isfinite(loss_sum);
  last_lr_ = optim::learning_rate(schedule_, state_.step);
  optimizer_.update(last_lr_, clip.control);
  parts_.model.units->publish();
  return result;
}

void Trainer::count(const StepResult& result, const data::StepData& data) {
  state_.step += 1;
  state_.updates = optimizer_.updates();
  state_.tokens += data.tokens;
  state_.seconds += result.seconds;
  state_.bad_in_a_row = result.updated ? 0 : state_.bad_in_a_row + 1;
  if (result.updated) return;
  state_.skipped += 1;
  log::warn(
      "step {}: loss {} and gradient norm {} are not both finite; the update is skipped ({} so "
      "far)",
      state_.step, result.loss, result.grad_norm, state_.skipped);
  if (state_.bad_in_a_row >= parts_.config.train.max_bad_steps)
    fail(ErrorKind::bad_data,
         "{} steps in a row had a loss or gradient that is not finite, the last at step {}: lower "
         "train.lr, look at the data of these steps, or start from the checkpoint before",
         state_.bad_in_a_row, state_.step);
}

void Trainer::report(const StepResult& result, const data::StepData& data, double seconds) {
  const bool frozen_base = parts_.config.recipe == Recipe::lora;
  parts_.telemetry.step({.step = state_.step,
                         .epoch = data.epoch,
                         .loss = result.loss,
                         .grad_norm = result.grad_norm,
                         .lr = last_lr_,
                         .tokens = data.tokens,
                         .trained_tokens = data.trained_tokens,
                         .seconds = seconds,
                         .skipped = state_.skipped,
                         .flops_per_token = parts_.model.config.flops_per_token(
                             parts_.config.data.seq_len, frozen_base)});
}

bool Trainer::evaluation_due(bool last) const {
  if (!parts_.eval) return false;
  const int64_t every = parts_.config.train.eval_every;
  return last || (every > 0 && state_.step % every == 0);
}

void Trainer::evaluate_now() {
  const telemetry::Span span("evaluation");
  parts_.model.units->gather_all();
  last_evaluation_ = evaluate(parts_.model, *parts_.eval,
                              {.max_records = parts_.config.train.eval_records}, parts_.world);
  parts_.telemetry.evaluation(state_.step, last_evaluation_.to_json());
  if (last_evaluation_.loss < state_.best_loss) {
    state_.best_loss = last_evaluation_.loss;
    state_.best_step = state_.step;
    state_.evaluations_since_best = 0;
    if (parts_.config.checkpoint.keep_best) save();
  } else {
    state_.evaluations_since_best += 1;
  }
}

bool Trainer::clock_says_save() const {
  const double every = parts_.config.checkpoint.every_minutes.seconds;
  return every > 0 && std::chrono::duration<double>(Clock::now() - last_save_).count() >= every;
}

int64_t Trainer::checkpoint_bytes() const {
  size_t bytes = 0;
  for (const nn::StatePiece& piece : parts_.model.units->value_pieces())
    bytes += piece.data.bytes();
  for (const nn::StatePiece& piece : optimizer_.states()) bytes += piece.data.bytes();
  return static_cast<int64_t>(bytes) * parts_.world.size();
}

void Trainer::save() {
  if (saved_step_ == state_.step) return;
  const telemetry::Span span("checkpoint");
  const Clock::time_point begin = Clock::now();
  std::vector<nn::StatePiece> states = parts_.model.units->value_pieces();
  for (nn::StatePiece& piece : optimizer_.states()) states.push_back(std::move(piece));
  Json layout;
  layout.set("data", parts_.world.size());
  const int64_t keep = parts_.config.checkpoint.keep;
  checkpoint::Retention retention{.keep = keep > 0 ? keep : INT64_MAX, .pinned = {}};
  if (parts_.config.checkpoint.keep_best && state_.best_step >= 0)
    retention.pinned.push_back(state_.best_step);
  parts_.folder.save(pieces_of(states),
                     {.step = state_.step,
                      .layout = layout,
                      .base_model = parts_.base_model,
                      .trainer = state_.to_json(),
                      .config = config_json(parts_.config)},
                     retention);
  saved_step_ = state_.step;
  last_save_ = Clock::now();
  parts_.telemetry.checkpoint(state_.step,
                              std::chrono::duration<double>(last_save_ - begin).count());
}

}  // namespace weft::recipes
