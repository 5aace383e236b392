#include "core/ops/kv_cache.h"

#include "kernels/no_cuda/no_cuda.h"

namespace weft::ops::cuda {

void rope_store(const RopeStoreArgs&) {
  no_cuda("rope_store");
}
void advance(const CachePlaces&) {
  no_cuda("advance");
}

}  // namespace weft::ops::cuda
