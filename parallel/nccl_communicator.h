// The communicator of GPU tensors.
#pragma once

#include <memory>

#include "parallel/communicator.h"

namespace weft::parallel {

struct NcclOptions {
  double timeout_seconds = 50;  // a call that runs for longer ends the run
};

// NCCL over the ranks of `host`, each with a GPU of its own; `host` carries the bootstrap, bytes
// and barriers. Collective. Throws Error{unavailable} in a build without NCCL.
//
// A call begins behind what is on the GPU's compute stream and runs on a stream of its own. wait()
// does not hold up the host: it puts the compute stream behind the call. done() says whether the
// GPU has finished it. A Work may be dropped at any time, which counts as a wait. Not while the
// compute stream is being captured into a graph.
//
// Sums: NCCL chooses ring or tree, and the parts of a tensor, by a table of sizes, GPUs and the
// links between them, never by measuring; an element is then added in a fixed order that need not
// be rank order (of two ranks there is but one order). So the same world gives the same bits in
// every run, and, by reduce-scatter and all-gather, on every rank. 16-bit sums are rounded at each
// of the group's hops. Sums in NVLink's switch (NVLS) are switched off by launch/. A maximum may
// drop NaN. That ranks make the same call is not checked; ranks that do not will wait for each
// other, and the watchdog ends the run.
std::shared_ptr<Communicator> make_nccl(std::shared_ptr<Communicator> host, Device device,
                                        const NcclOptions& options = {});

}  // namespace weft::parallel
