// AdamW over flat shards. Sees segments with name, shape, learning-rate scale and decay, not
// layers.
#pragma once

#include <functional>
#include <vector>

#include "core/nn/shard.h"
#include "core/ops/adamw.h"

namespace weft::optim {

struct AdamwOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.0;       // on segments that decay
  double max_grad_norm = 0.0;      // 0: no clipping
  bool master_weights = true;      // false: bf16 values are rounded stochastically, without a copy
  DType state_dtype = DType::f32;  // of m and v; bf16 is rounded stochastically
  uint64_t seed = 0;               // of stochastic rounding
  double loss_scale = 1.0;         // fp16's, at first
  int64_t scale_window = 0;        // 0: the loss scale stays; see ops::UpdateControlArgs
};

// What training must remember of it beside states().
struct AdamwProgress {
  int64_t updates = 0;  // made so far
  double loss_scale = 1;
  int64_t updates_at_scale = 0;
};

class Adamw {
 public:
  // Allocates m and v (zero) and, where values are not f32, an f32 master copy.
  Adamw(std::vector<nn::Shard> shards, const AdamwOptions& options);

  // Master copies from the values: after values were read or made, not after the states were
  // loaded. `unrounded` (may be empty) fills a segment's elements [count] f32 on the CPU where it
  // knows them better than the 16 bits of the value do: masters that start on the values' grid do
  // not move a value until they have gone half a step of it.
  using Unrounded = std::function<bool(const nn::Segment& segment, const Tensor& out)>;
  void take_values(const Unrounded& unrounded = {});

  // One update of every segment, or none where a loss or gradient is not finite. gathered [ranks,
  // shards + losses] f64: see ops::UpdateControlArgs. `step` keys stochastic rounding. Returns
  // ops::StepReport's numbers; nobody waits for a GPU. `updated(i)` is called once shard i's value
  // is written, in order: parallel::Units::publish. Small shards are written together, and large
  // ones before the next are begun.
  Tensor update(double lr, int64_t step, const Tensor& gathered,
                const std::function<void(size_t shard)>& updated = {});
  // The factor of the loss now: [1] f32, where the shards are.
  Tensor loss_scale() const;

  AdamwProgress progress() const;  // waits
  void set_progress(const AdamwProgress& progress);

  const std::vector<nn::Shard>& shards() const { return shards_; }
  // "m", "v" and, where there is one, "master" of every segment, in order. Views: loading writes
  // into them.
  std::vector<nn::StatePiece> states() const;

 private:
  struct State {
    Tensor master, m, v;  // [n]; master undefined where the value is its own
  };
  struct Run {  // neighbouring segments with equal hyperparameters
    size_t shard = 0;
    int64_t offset = 0, count = 0;
    bool decay = true;
    float lr_scale = 1.0f;
    uint64_t name = 0;  // rounded stochastically: the hash of the only segment's name
    int64_t begin = 0;  // and its first element's index in the parameter
  };
  void add_runs(size_t shard);
  ops::AdamwRun arguments_of(const Run& run, double lr, uint64_t key) const;
  bool rounds_stochastically(const nn::Shard& shard) const;

  std::vector<nn::Shard> shards_;
  std::vector<State> states_;
  std::vector<Run> runs_;
  AdamwOptions options_;
  Tensor progress_;  // ops::Progress
  Tensor control_;   // ops::Control
};

}  // namespace weft::optim
