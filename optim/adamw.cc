#include "optim/adamw.h"

#include "core/base/rng.h"
#include "core/ops/elementwise.h"
#include "core/ops/update_control.h"

namespace weft::optim {
namespace {

// Shards are updated together until they have so many elements. On an H200 that takes 0.2 ms,
// beside which a launch is nothing; more would only keep the gathering of the first from starting.
constexpr int64_t kElementsTogether = int64_t{32} << 20;

}  // namespace

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
  std::vector<ops::AdamwRun> together;
  int64_t elements = 0;
  size_t handed_on = 0;
  auto run = runs_.begin();
  for (size_t shard = 0; shard < shards_.size(); ++shard) {
    for (; run != runs_.end() && run->shard == shard; ++run)
      together.push_back(arguments_of(*run, lr, key));
    elements += shards_[shard].value.numel();
    if (elements < kElementsTogether && shard + 1 < shards_.size()) continue;
    ops::adamw({.runs = together,
                .control = control_,
                .beta1 = static_cast<float>(options_.beta1),
                .beta2 = static_cast<float>(options_.beta2),
                .eps = static_cast<float>(options_.eps)});
    for (; updated && handed_on <= shard; ++handed_on) updated(handed_on);
    together.clear();
    elements = 0;
  }
  return report;
}

ops::AdamwRun Adamw::arguments_of(const Run& run, double lr, uint64_t key) const {
  const auto part = [&](const Tensor& t) {
    return t.defined() ? t.flat(run.offset, {run.count}) : Tensor();
  };
  const nn::Shard& shard = shards_[run.shard];
  const State& state = states_[run.shard];
  return {.value = part(shard.value),
          .master = part(state.master),
          .grad = part(shard.grad),
          .m = part(state.m),
          .v = part(state.v),
          .lr = static_cast<float>(lr * run.lr_scale),
          .weight_decay = run.decay ? static_cast<float>(options_.weight_decay) : 0.0f,
          .rounding = {mix(key, run.name), run.begin}};
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
