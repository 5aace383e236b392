// How many threads a rank computes with.
#pragma once

namespace weft {

// For parallel loops of this process that start later. 1 or more. Without OpenMP there is one
// thread, whatever is asked for.
void set_num_threads(int count);
int num_threads();

}  // namespace weft
