// How fast the ranks exchange what a training step exchanges.
#pragma once

#include <cstddef>
#include <vector>

#include "parallel/communicator.h"

namespace weft::recipes {

// A collective of `bytes` on each rank, as parallel::Units makes them: the gradient of a unit, its
// values. Bus bandwidth: bytes (n-1)/n a second, what each rank's link must carry.
struct LinkSpeed {
  size_t bytes = 0;
  double reduce_scatter = 0;  // bus bytes a second
  double all_gather = 0;
  double all_reduce = 0;  // the one after the other, by 2 (n-1)/n
};

// Collective; empty for one rank. Rank 0's clock counts.
std::vector<LinkSpeed> measure_links(parallel::Communicator& ranks, Device device, DType dtype);

}  // namespace weft::recipes
