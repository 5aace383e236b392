// Collectives as rounds of messages, for any transport.
#pragma once

#include "parallel/host_engine.h"

namespace weft::parallel {

// What rank `rank` of `size` does for the call. A collective begins by telling every rank what it
// is about to do, and fails with Error{internal} where another rank does something else.
Plan make_plan(const Call& call, int rank, int size);

}  // namespace weft::parallel
