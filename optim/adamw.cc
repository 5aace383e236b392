#include "optim/adamw.h"

#include "core/ops/adamw.h"
#include "core/ops/elementwise.h"

namespace weft::optim {

Adamw::Adamw(std::vector<nn::Shard> shards, const AdamwOptions& options)
    : shards_(std::move(shards)), options_(options) {
  for (size_t i = 0; i < shards_.size(); ++i) {
    const nn::Shard& shard = shards_[i];
    const auto make = [&] {
      return Tensor::zeros(shard.value.shape(), DType::f32, shard.value.device(),
                           MemoryTag::optimizer);
    };
    State state{{}, make(), make()};
    if (shard.value.dtype() != DType::f32) state.master = make();
    states_.push_back(std::move(state));
    for (const nn::Segment& s : shard.segments) {
      Run* last = runs_.empty() ? nullptr : &runs_.back();
      if (last && last->shard == i && last->decay == s.decay && last->lr_scale == s.lr_scale &&
          last->offset + last->count == s.offset)
        last->count += s.count;
      else
        runs_.push_back({i, s.offset, s.count, s.decay, s.lr_scale});
    }
  }
  take_values();
}

void Adamw::take_values() {
  for (size_t i = 0; i < shards_.size(); ++i)
    if (states_[i].master.defined()) ops::cast(shards_[i].value, states_[i].master);
}

void Adamw::update(double lr, const Tensor& control) {
  if (control.data<float>()[1] == 0 || shards_.empty()) return;
  ++updates_;
  const Tensor on_device = control.to(shards_[0].value.device());
  for (const Run& run : runs_) {
    const auto part = [&](const Tensor& t) {
      return t.defined() ? t.flat(run.offset, {run.count}) : Tensor();
    };
    ops::AdamwHyper hyper;
    hyper.lr = static_cast<float>(lr * run.lr_scale);
    hyper.beta1 = static_cast<float>(options_.beta1);
    hyper.beta2 = static_cast<float>(options_.beta2);
    hyper.eps = static_cast<float>(options_.eps);
    hyper.weight_decay = run.decay ? static_cast<float>(options_.weight_decay) : 0.0f;
    hyper.step = updates_;
    const nn::Shard& shard = shards_[run.shard];
    const State& state = states_[run.shard];
    ops::adamw({part(shard.value), part(state.master), part(shard.grad), part(state.m),
                part(state.v), on_device, hyper});
  }
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
