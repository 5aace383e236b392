#include "core/ops/adapter_input_gradient.h"

namespace weft::ops::cpu {

void adapter_input_gradient(const AdapterInputGradientArgs& args) {
  adapter_input_gradient_by_product(args);
}

}  // namespace weft::ops::cpu
