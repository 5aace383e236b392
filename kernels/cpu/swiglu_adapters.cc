#include "core/ops/swiglu_adapters.h"

namespace weft::ops::cpu {

void swiglu_hidden(const Tensor& gate_up, const Tensor& a, float scale, const SwigluFront& front,
                   const SwigluHidden& result) {
  swiglu_hidden_by_parts(gate_up, a, scale, front, result);
}

void swiglu_adapters_backward(const SwigluAdaptersBackwardArgs& args, const Tensor& dh) {
  swiglu_adapters_backward_by_parts(args, dh);
}

}  // namespace weft::ops::cpu
