#include "core/ops/adapter_gradients.h"

namespace weft::ops::cpu {

void adapter_gradients(const AdapterGradientsArgs& args) {
  for (const AdapterSegment& segment : args.segments) adapter_gradients_by_products(args, segment);
}

}  // namespace weft::ops::cpu
