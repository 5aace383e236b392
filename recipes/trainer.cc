#include "recipes/trainer.h"

#include <cmath>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/log.h"
#include "core/base/units.h"
#include "core/ops/elementwise.h"
#include "core/ops/update_control.h"
#include "core/telemetry/trace.h"
#include "optim/norm.h"
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

optim::AdamwOptions optimizer_options(const TrainConfig& train, const Model& model) {
  const bool fp16 = model.decoder->parameters()[0]->dtype == DType::f16;
  return {.beta1 = train.beta1,
          .beta2 = train.beta2,
          .eps = train.eps,
          .weight_decay = train.weight_decay,
          .max_grad_norm = train.max_grad_norm,
          .master_weights = train.master_weights == MasterWeights::fp32,
          .state_dtype = train.optimizer_dtype == Precision::bf16 ? DType::bf16 : DType::f32,
          .seed = static_cast<uint64_t>(train.seed),
          .loss_scale = fp16 ? train.loss_scale : 1,
          .scale_window = fp16 ? train.scale_window : 0};
}

// "43.1 GiB at most (parameter 2.88 GiB, ...)": a table by tag in a line.
std::string memory_peaks(Device device) {
  std::string by_tag;
  for (int i = 0; i < static_cast<int>(MemoryTag::count_); ++i) {
    const auto tag = static_cast<MemoryTag>(i);
    const double peak = static_cast<double>(memory_use(tag, device).peak);
    if (peak > 0)
      by_tag += fmt::format("{}{} {}", by_tag.empty() ? "" : ", ", name_of(tag), human_bytes(peak));
  }
  const double all = static_cast<double>(memory_use_total(device).peak);
  return fmt::format("{} at most ({})", human_bytes(all), by_tag);
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
      optimizer_(parts_.model.units->shards(),
                 optimizer_options(parts_.config.train, parts_.model)),
      runner_(parts_.model, parts_.config.train, parts_.config.data.seq_len),
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
  optimizer_.set_progress({.updates = state_.updates,
                           .loss_scale = state_.loss_scale,
                           .updates_at_scale = state_.updates_at_scale});
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
  } else {
    optimizer_.take_values([this](const nn::Segment& s, const Tensor& out) {
      return parts_.model.unrounded && parts_.model.unrounded(s.name, s.begin, out);
    });
  }
  parts_.telemetry.start(state_.step, total_steps_);
  last_step_ = last_settled_ = Clock::now();
  while (!finished()) {
    const telemetry::StepSpan traced;
    const data::StepData data = next_data();
    launch(data);
    const Wishes wishes = agree();
    if (!wishes.stop && evaluation_due(finished())) evaluate_now();
    const int64_t every = parts_.config.checkpoint.every_steps;
    const bool last = finished();
    if (last || wishes.stop || wishes.save || (every > 0 && state_.step % every == 0)) save();
    if (wishes.stop && !last) {
      finish_publishing();
      fail(ErrorKind::try_again,
           "stopped at step {} of {} as asked; the checkpoint is committed: the same command goes "
           "on",
           state_.step, total_steps_);
    }
  }
  finish_publishing();
  log::debug("memory: {} requests to the driver in the first two steps, {} in the others",
             early_requests_, late_requests_);
  if (out_of_time())
    log::info("train.max_time is over after {} of {} steps", state_.step, total_steps_);
  else if (state_.step < total_steps_)
    log::info("stopped early: no better held-out loss since step {}", state_.best_step);
}

void Trainer::run_steps(int64_t steps) {
  last_step_ = last_settled_ = Clock::now();
  for (int64_t i = 0; i < steps; ++i) {
    const telemetry::StepSpan traced;
    launch(next_data());
    agree();
  }
  finish_publishing();
}

data::StepData Trainer::next_data() {
  const telemetry::Span span("data");
  return loader_.step(state_.step);
}

// At the end of a run nothing may be under way, nor a rank left waiting for what another sends.
void Trainer::finish_publishing() {
  settle();
  parts_.model.units->gather_all();
  parts_.world.barrier("end of training");
}

// loss_sums[i] = micro-batch i's.
void Trainer::forward_backward(const data::StepData& data, const Tensor& loss_sums) {
  const Model& model = parts_.model;
  model.units->zero_gradients();
  const Tensor loss_scale = optimizer_.loss_scale().clone();
  ops::scale_in_place(loss_scale,
                      1.0f / static_cast<float>(std::max<int64_t>(data.trained_tokens, 1)));
  for (size_t i = 0; i < data.micro_batches.size(); ++i) {
    if (data.micro_batches[i].tokens() == 0) continue;
    nn::Step step = make_step(data.micro_batches[i], nn::Mode::train, model);
    step.loss_scale = loss_scale.to(model.device);
    step.loss_sum = loss_sums.flat(static_cast<int64_t>(i), {1});
    step.seed = static_cast<uint64_t>(parts_.config.train.seed);
    step.number = static_cast<uint64_t>(data.step);
    step.weight_grads = &weight_grads_;
    step.deterministic = parts_.config.train.deterministic;
    const bool last = i + 1 == data.micro_batches.size();
    runner_.train(step, last);
  }
  model.units->finish_reduce();
}

// Gives the device a step, then reads the numbers of the one before; on the CPU its own too.
void Trainer::launch(const data::StepData& data) {
  const Model& model = parts_.model;
  parallel::Communicator& ranks = *model.units->communicator();
  const int64_t shards = static_cast<int64_t>(optimizer_.shards().size());
  const int64_t losses = static_cast<int64_t>(data.micro_batches.size());
  const Tensor mine = Tensor::zeros({shards + losses}, DType::f64, model.device);
  forward_backward(data, mine.flat(shards, {losses}));
  const telemetry::Span span("optimizer");
  optim::sums_of_squares(optimizer_.shards(), mine.flat(0, {shards}));
  const Tensor all = Tensor::empty({ranks.size(), shards + losses}, DType::f64, model.device);
  ranks.all_gather(mine, all, "norm and loss").wait();

  Launched next{.step = state_.step + 1,
                .epoch = data.epoch,
                .tokens = data.tokens,
                .trained_tokens = data.trained_tokens,
                .lr = optim::learning_rate(schedule_, state_.step),
                .report = {}};
  next.report = Readback(optimizer_.update(next.lr, state_.step, all,
                                           [&](size_t shard) { model.units->publish(shard); }));
  settle();
  state_.step += 1;
  const int64_t requests = memory_requests(model.device);
  if (++steps_here_ <= 2) early_requests_ = requests;
  if (steps_here_ == 2) log::info("memory: {}", memory_peaks(model.device));
  late_requests_ = requests - early_requests_;
  launched_ = std::move(next);
  if (model.device.is_cpu()) settle();
}

void Trainer::settle() {
  if (!launched_.report.pending()) return;
  const telemetry::Span span("settle");
  const Launched launched = std::exchange(launched_, {});
  const double* numbers = launched.report.get().data<double>();
  const auto at = [&](ops::StepReport what) { return numbers[static_cast<int>(what)]; };
  const StepResult result{
      .loss = at(ops::StepReport::loss_sum) /
              static_cast<double>(std::max<int64_t>(launched.trained_tokens, 1)),
      .grad_norm = at(ops::StepReport::grad_norm),
      .updated = at(ops::StepReport::updated) != 0,
      .updates = static_cast<int64_t>(at(ops::StepReport::updates)),
      .loss_scale = at(ops::StepReport::loss_scale)};
  count(launched, result);
  report(launched, result);
}

// One gather of a few numbers from every rank's host.
Trainer::Wishes Trainer::agree() {
  const Clock::time_point now = Clock::now();
  const Tensor mine = Tensor::empty({3}, DType::f64);
  mine.data<double>()[0] = stop_requested() ? 1 : 0;
  mine.data<double>()[1] = parts_.world.rank() == 0 && clock_says_save() ? 1 : 0;
  mine.data<double>()[2] = std::chrono::duration<double>(now - last_step_).count();
  last_step_ = now;
  const Tensor all = Tensor::empty({parts_.world.size(), 3}, DType::f64);
  parts_.world.all_gather(mine, all, "wishes").wait();
  Wishes wishes;
  for (int r = 0; r < parts_.world.size(); ++r) {
    wishes.stop |= all.data<double>()[3 * r] != 0;
    wishes.save |= all.data<double>()[3 * r + 1] != 0;
  }
  wishes.seconds = all.data<double>()[2];
  state_.seconds += wishes.seconds;
  return wishes;
}

void Trainer::count(const Launched& launched, const StepResult& result) {
  state_.updates = result.updates;
  state_.tokens += launched.tokens;
  state_.bad_in_a_row = result.updated ? 0 : state_.bad_in_a_row + 1;
  if (result.updated) return;
  state_.skipped += 1;
  if (result.loss_scale > 1 && std::isfinite(result.loss))
    return log::info("step {}: gradients pass what fp16 holds; the loss scale {} is halved",
                     launched.step, result.loss_scale);
  log::warn(
      "step {}: loss {} and gradient norm {} are not both finite; the update is skipped ({} so "
      "far)",
      launched.step, result.loss, result.grad_norm, state_.skipped);
  if (state_.bad_in_a_row >= parts_.config.train.max_bad_steps)
    fail(ErrorKind::bad_data,
         "{} steps in a row had a loss or gradient that is not finite, the last at step {}: lower "
         "train.lr, look at the data of these steps, or start from the checkpoint before",
         state_.bad_in_a_row, launched.step);
}

void Trainer::report(const Launched& launched, const StepResult& result) {
  const bool frozen_base = parts_.config.recipe == Recipe::lora;
  const Clock::time_point now = Clock::now();
  parts_.telemetry.step({.step = launched.step,
                         .epoch = launched.epoch,
                         .loss = result.loss,
                         .grad_norm = result.grad_norm,
                         .lr = launched.lr,
                         .tokens = launched.tokens,
                         .trained_tokens = launched.trained_tokens,
                         .seconds = std::chrono::duration<double>(now - last_settled_).count(),
                         .skipped = state_.skipped,
                         .flops_per_token = parts_.model.config.flops_per_token(
                             parts_.config.data.seq_len, frozen_base)});
  last_settled_ = now;
}

bool Trainer::evaluation_due(bool last) const {
  if (!parts_.eval) return false;
  const int64_t every = parts_.config.train.eval_every;
  return last || (every > 0 && state_.step % every == 0);
}

void Trainer::evaluate_now() {
  settle();
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
  last_settled_ = Clock::now();
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
  settle();
  if (saved_step_ == state_.step) return;
  const telemetry::Span span("checkpoint");
  const Clock::time_point begin = Clock::now();
  const optim::AdamwProgress progress = optimizer_.progress();
  state_.loss_scale = progress.loss_scale;
  state_.updates_at_scale = progress.updates_at_scale;
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
  last_settled_ = Clock::now();
}

}  // namespace weft::recipes
