#include "core/base/threads.h"

#ifdef _OPENMP
#include <omp.h>
#endif

#include "core/base/error.h"

namespace weft {

void set_num_threads(int count) {
  CHECK(count >= 1, "{} threads", count);
#ifdef _OPENMP
  omp_set_num_threads(count);
#endif
}

int num_threads() {
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

}  // namespace weft
