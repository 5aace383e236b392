// AdamW over flat shards. Sees segments with name, shape, learning-rate scale and decay, not
// layers.
#pragma once

#include <vector>

#include "core/nn/shard.h"

namespace weft::optim {

struct AdamwOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.0;  // on segments that decay
};

class Adamw {
 public:
  // Allocates m and v (f32, zero) and, where values are not f32, an f32 master copy.
  Adamw(std::vector<nn::Shard> shards, const AdamwOptions& options);

  // Master copies from the values: after values were read or made, not after the states were
  // loaded.
  void take_values();

  // One update of every segment. `control`: see ops::AdamwArgs; when control[1] is 0 nothing
  // changes, the count of updates neither. Values are written: parallel::Units::publish comes next.
  void update(double lr, const Tensor& control);

  int64_t updates() const { return updates_; }  // made so far; part of the state
  void set_updates(int64_t updates) { updates_ = updates; }

  const std::vector<nn::Shard>& shards() const { return shards_; }
  // "m", "v" and, where there is one, "master" of every segment, in order. Views: loading writes
  // into them.
  std::vector<nn::StatePiece> states() const;

 private:
  struct State {
    Tensor master, m, v;  // [n]; master undefined for f32 values
  };
  struct Run {  // neighbouring segments with equal hyperparameters
    size_t shard = 0;
    int64_t offset = 0, count = 0;
    bool decay = true;
    float lr_scale = 1.0f;
  };
  std::vector<nn::Shard> shards_;
  std::vector<State> states_;
  std::vector<Run> runs_;
  AdamwOptions options_;
  int64_t updates_ = 0;
};

}  // namespace weft::optim
