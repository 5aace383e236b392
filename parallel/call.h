// One call of a communicator, as data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor/tensor.h"

namespace weft::parallel {

enum class Reduce { sum, max };  // max: NaN if any is NaN

struct Transfer {
  int peer = 0;
  Tensor tensor;
};

enum class CallOp {
  all_reduce,
  reduce_scatter,
  all_gather,
  all_to_all,
  broadcast,
  send_receive,
  barrier
};
const char* name_of(CallOp op);

// One call as the definitions see it, checked.
struct Call {
  CallOp op = CallOp::barrier;
  Reduce reduce = Reduce::sum;
  Tensor input = {};
  Tensor output = {};
  int root = 0;
  std::vector<Transfer> sends = {}, receives = {};
  std::string tag = {};    // what for; equal on all ranks of a collective
  uint64_t sequence = 0;   // of this communicator
  uint64_t record_id = 0;  // in the CallLog
};
std::string describe(const Call& call);  // "f32[4096] -> f32[1024]"

}  // namespace weft::parallel
