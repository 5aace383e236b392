#include "core/ops/adapter_gradients.h"

#include "kernels/no_cuda/no_cuda.h"

namespace weft::ops::cuda {

void adapter_gradients(const AdapterGradientsArgs&) {
  no_cuda("adapter_gradients");
}

}  // namespace weft::ops::cuda
