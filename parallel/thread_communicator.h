// Ranks as threads of one process: the communicator of the tests.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "parallel/communicator.h"

namespace weft::parallel {

// The world's communicators, one a rank. Fewer than all may be used only by code that calls no
// collective.
std::vector<std::shared_ptr<Communicator>> make_thread_world(int size);

// Runs `body` on `size` threads, one a rank. When one throws, the calls of all others end with an
// Error, and the first exception is rethrown here once every thread has ended.
void run_ranks(int size, const std::function<void(Communicator&)>& body);

}  // namespace weft::parallel
