#include "core/ops/adapter_input_gradient.h"

#include "kernels/no_cuda/no_cuda.h"

namespace weft::ops::cuda {

void adapter_input_gradient(const AdapterInputGradientArgs&) {
  no_cuda("adapter_input_gradient");
}

}  // namespace weft::ops::cuda
