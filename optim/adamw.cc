#include "optim/adamw.h"

#include "core/base/rng.h"
#include "core/ops/elementwise.h"
#include "core/ops/update_control.h"

namespace weft::optim {

Adamw::Adamw(std::vector<nn::Shard> shards, const AdamwOptions& options)
    : shards_(std::move(shards)), options_(options) {
  for (size_t i = 0; i < shards_.size(); ++i) {
    const nn::Shard& shard = shards_[i];
    const auto make = [&](DType dtype) {
      return Tensor::zeros(shard.value.shape(), dtype, shard.value.device(), MemoryTag::optimizer);
    };
    State state{{}, make(options_.state_dtype), make(options_.state_dtype)};
    if (shard.value.dtype() != DType::f32 && options_.master_weights)
      state.master = make(DType::f32);
    states_.push_back(std::move(state));
    add_runs(i);
  }
  const Device device = shards_.empty() ? Device{} : shards_[0].value.device();
  progress_ = Tensor::zeros({static_cast<int64_t>(ops::Progress::count_)}, DType::f64, device,
                            MemoryTag::optimizer);
  control_ = Tensor::zeros({static_cast<int64_t>(ops::Control::count_)}, DType::f32, device,
                           MemoryTag::optimizer);
  set_progress({.loss_scale = options_.loss_scale});
  take_values();
}

bool Adamw::rounds_stochastically(const nn::Shard& shard) const {
  return options_.state_dtype != DType::f32 ||
         (shard.value.dtype() != DType::f32 && !options_.master_weights);
}

void Adamw::add_runs(size_t i) {
  const bool alone = rounds_stochastically(shards_[i]);  // its draws count in its own parameter
  for (const nn::Segment& s : shards_[i].segments) {
    Run* last = runs_.empty() ? nullptr : &runs_.back();
    if (!alone && last && last->shard == i && last->decay == s.decay &&
        last->lr_scale == s.lr_scale && last->offset + last->count == s.offset)
      last->count += s.count;
    else
      runs_.push_back({i, s.offset, s.count, s.decay, s.lr_scale, hash_name(s.name), s.begin});
  }
}

void Adamw::take_values(const Unrounded& unrounded) {
  for (size_t i = 0; i < shards_.size(); ++i) {
    const Tensor& master = states_[i].master;
    if (!master.defined()) continue;
    ops::cast(shards_[i].value, master);
    for (const nn::Segment& s : shards_[i].segments) {
      const Tensor host = unrounded ? Tensor::empty({s.count}, DType::f32) : Tensor();
      if (unrounded && unrounded(s, host)) master.flat(s.offset, {s.count}).copy_from(host);
    }
  }
}

Tensor Adamw::update(double lr, int64_t step, const Tensor& gathered,
                     const std::function<void(size_t)>& updated) {
  const Tensor report =
      Tensor::empty({static_cast<int64_t>(ops::StepReport::count_)}, DType::f64, gathered.device());
  ops::update_control({.gathered = gathered,
                       .shards = static_cast<int64_t>(shards_.size()),
                       .progress = progress_,
                       .control = control_,
                       .report = report,
                       .max_norm = options_.max_grad_norm,
                       .beta1 = options_.beta1,
                       .beta2 = options_.beta2,
                       .scale_window = options_.scale_window});
  const uint64_t key = mix(options_.seed, static_cast<uint64_t>(step));
  auto run = runs_.begin();
  for (size_t shard = 0; shard < shards_.size(); ++shard) {
    for (; run != runs_.end() && run->shard == shard; ++run) update_run(*run, lr, key);
    if (updated) updated(shard);
  }
  return report;
}

void Adamw::update_run(const Run& run, double lr, uint64_t key) {
  const auto part = [&](const Tensor& t) {
    return t.defined() ? t.flat(run.offset, {run.count}) : Tensor();
  };
  const nn::Shard& shard = shards_[run.shard];
  const State& state = states_[run.shard];
  ops::adamw(
      {.value = part(shard.value),
       .master = part(state.master),
       .grad = part(shard.grad),
       .m = part(state.m),
       .v = part(state.v),
       .control = control_,
       .hyper = {.lr = static_cast<float>(lr * run.lr_scale),
                 .beta1 = static_cast<float>(options_.beta1),
                 .beta2 = static_cast<float>(options_.beta2),
                 .eps = static_cast<float>(options_.eps),
                 .weight_decay = run.decay ? static_cast<float>(options_.weight_decay) : 0.0f},
       .rounding = {mix(key, run.name), run.begin}});
}

Tensor Adamw::loss_scale() const {
  return control_.flat(static_cast<int64_t>(ops::Control::loss_scale), {1});
}

AdamwProgress Adamw::progress() const {
  const Tensor host = progress_.to({});
  const auto at = [&](ops::Progress what) { return host.data<double>()[static_cast<int>(what)]; };
  return {static_cast<int64_t>(at(ops::Progress::updates)), at(ops::Progress::loss_scale),
          static_cast<int64_t>(at(ops::Progress::updates_at_scale))};
}

void Adamw::set_progress(const AdamwProgress& progress) {
  const Tensor host = Tensor::empty(progress_.shape(), DType::f64);
  const auto set = [&](ops::Progress what, double value) {
    host.data<double>()[static_cast<int>(what)] = value;
  };
  set(ops::Progress::updates, static_cast<double>(progress.updates));
  set(ops::Progress::loss_scale, progress.loss_scale);
  set(ops::Progress::updates_at_scale, static_cast<double>(progress.updates_at_scale));
  progress_.copy_from(host);
  ops::fill(loss_scale(), static_cast<float>(progress.loss_scale));
}

std::vector<nn::StatePiece> Adamw::states() const {
  std::vector<nn::StatePiece> pieces;
  for (size_t i = 0; i < shards_.size(); ++i)
    for (const nn::Segment& s : shards_[i].segments) {
      const auto add = [&](const char* part, const Tensor& t) {
        if (t.defined()) pieces.push_back({part, s, t.flat(s.offset, {s.count})});
      };
      add("master", states_[i].master);
      add("m", states_[i].m);
      add("v", states_[i].v);
    }
  return pieces;
}

}  // namespace weft::optim
