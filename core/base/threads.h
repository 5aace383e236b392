// Threads of the CPU kernels: one team (OpenMP's, which oneDNN shares).
#pragma once

#include <cstdint>
#include <functional>

namespace weft {

void set_num_threads(int count);  // of the calling thread's parallel regions; >= 1
int num_threads();

// Calls body(begin, end) on disjoint ranges that cover [0, n), at least `grain` long where
// possible, in parallel. Ranges depend on the thread count: a sum whose bits must not depend on it
// splits its work itself. Exceptions of the body are rethrown in the caller (one of them).
void parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

}  // namespace weft
