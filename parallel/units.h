// The memory of the units: one flat buffer for each (trainable, dtype), values and gradients, and
// the verbs around their use. This is ZeRO stage 1: values are resident and replicated, each data
// rank updates its shard.
//
//   step:  zero_gradients; for each micro-batch { gather(u) forward release(u) ... backward
//   [reduce(u) in the last] };
//          finish_reduce; norm of the shards; optimizer updates the shards; publish
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "core/nn/shard.h"
#include "core/telemetry/trace.h"
#include "parallel/communicator.h"
#include "parallel/unit_table.h"

namespace weft::parallel {

struct UnitsOptions {
  bool gradients = true;      // false: values only (eval, generate, export)
  bool f32_gradients = true;  // false: a gradient has its value's dtype
  Device device = {};
  // In which gradients travel and are summed (f32, bf16); none: their own. A group of one has no
  // sum, so that nothing is rounded there.
  std::optional<DType> reduce_dtype = {};
};

class Units {
 public:
  // Allocates nothing. `data`: the data-parallel group, of the mesh's size.
  Units(std::vector<nn::Unit> units, std::shared_ptr<Communicator> data, const MeshSizes& sizes,
        int rank);
  Units(std::vector<nn::Unit> units, const Mesh& mesh);
  Units(std::vector<nn::Unit> units, std::shared_ptr<Communicator> data);  // the only axis

  const UnitTable& table() const { return table_; }
  // The data ranks, for tensors where the units are.
  const std::shared_ptr<Communicator>& communicator() const { return data_; }
  int size() const { return static_cast<int>(table_.units().size()); }

  // Allocates the buffers, zeroed, and sets each Parameter's value and grad (trainable ones only)
  // as views.
  void materialize(const UnitsOptions& options = {});
  // Values by each parameter's Init, keyed by (seed, name, global index): equal on every rank and
  // layout.
  void init_random(uint64_t seed);

  // The verbs, by the unit's index. gather: values are whole and current when it returns.
  void gather(int unit);
  void gather_all();
  void release(int unit);
  // Starts the sum of the unit's gradients over the data ranks; called once a step, after the
  // unit's last weight gradient. Until finish_reduce nobody touches them; after it each rank's
  // shard of the gradient is right, the rest is scrap. The last unit's sum starts first whatever
  // the order of the calls, so that ranks agree: a unit waits for those behind it.
  void reduce(int unit);
  void finish_reduce();  // starts what was not started, waits for all
  // Starts the gathering of updated value shards, in the units' order; gather(unit) waits for it.
  void publish();
  // Of products they become stale (nn::Parameter), the others zero.
  void zero_gradients();
  void zero_stale_gradients();  // before whoever adds to gradients without asking

  // This rank's shard of every trainable buffer, in order of buffers. Views: valid until the next
  // materialize.
  std::vector<nn::Shard> shards() const;
  // The values of the shards as named pieces ("value"); publish() after loading into them.
  std::vector<nn::StatePiece> value_pieces() const;

  // Collective: throws Error{internal} naming the unit and the ranks when values are not the same
  // on all ranks.
  void check_replicas();

 private:
  struct Memory {
    Tensor value;     // [padded]
    Tensor grad;      // [padded], undefined when frozen
    Work publishing;  // all-gather of the values
    Tensor sum;       // [padded], the gradients on their way where that is in another dtype
    Work reducing;    // reduce-scatter of the gradients
    telemetry::SideSpan span;  // of the one or the other
  };
  Tensor shard_of(const FlatBuffer& buffer, const Tensor& flat) const;
  void begin_step();
  void start_ready();
  void start_reduce(size_t buffer);
  void zero_stale_gradients(size_t buffer);
  void finish_reduce(size_t buffer);
  void end_spans();  // of what is done

  UnitTable table_;
  int rank_;  // in the mesh
  std::shared_ptr<Communicator> data_;
  std::vector<Memory> memory_;                // one a buffer
  std::vector<std::vector<size_t>> of_unit_;  // buffers of a unit
  std::vector<bool> ready_;                   // reduce(unit) was called in this step
  int next_reduce_ = -1;                      // the unit whose sum starts next
  std::optional<DType> reduce_dtype_;
  std::deque<size_t> summing_;  // buffers whose Memory::sum is on its way, in order
};

}  // namespace weft::parallel
