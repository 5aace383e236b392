#include "core/ops/swiglu_adapters.h"

#include "kernels/no_cuda/no_cuda.h"

namespace weft::ops::cuda {

void swiglu_hidden(const Tensor&, const Tensor&, float, const SwigluFront&, const SwigluHidden&) {
  no_cuda("swiglu_hidden");
}
void swiglu_adapters_backward(const SwigluAdaptersBackwardArgs&, const Tensor&) {
  no_cuda("swiglu_adapters_backward");
}
bool swiglu_adds_front(int64_t, const Tensor&, const std::vector<AdapterSegment>&) {
  no_cuda("swiglu_adds_front");
}

}  // namespace weft::ops::cuda
