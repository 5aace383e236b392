#include "core/base/threads.h"

#include <algorithm>
#include <exception>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace weft {

#ifdef _OPENMP
void set_num_threads(int count) {
  omp_set_num_threads(std::max(1, count));
}
int num_threads() {
  return omp_get_max_threads();
}
#else
void set_num_threads(int) {}
int num_threads() {
  return 1;
}
#endif

void parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  if (n <= 0) return;
  const int64_t parts = std::clamp<int64_t>(n / std::max<int64_t>(grain, 1), 1, num_threads());
  if (parts == 1) return body(0, n);
  std::exception_ptr error;
#pragma omp parallel for schedule(static, 1) num_threads(static_cast <int>(parts))
  for (int64_t part = 0; part < parts; ++part) {
    try {
      body(n * part / parts, n * (part + 1) / parts);
    } catch (...) {
#pragma omp critical(weft_parallel_for)
      error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace weft
