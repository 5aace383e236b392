// What every communicator must do, as checks that throw: one body for threads, MPI and NCCL
// (`device`: where the tensors are).
#pragma once

#include "parallel/communicator.h"

namespace weft::test {

// Every collective with odd, zero and block-crossing lengths and every dtype, against serial sums
// in rank order.
void check_collectives(parallel::Communicator& group, Device device = {});
// Groups by color and key, whose calls do not disturb each other.
void check_split(parallel::Communicator& group, Device device = {});
// Several operations under way at once, waited for in another order, on two communicators.
void check_overlap(parallel::Communicator& group, Device device = {});

}  // namespace weft::test
