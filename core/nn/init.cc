#include "core/nn/init.h"

#include "core/ops/elementwise.h"

namespace weft::nn {

void initialize(const Parameter& parameter, uint64_t seed) {
  switch (parameter.init.kind) {
    case Init::Kind::zeros:
      return ops::fill(parameter.value, 0);
    case Init::Kind::ones:
      return ops::fill(parameter.value, 1);
    case Init::Kind::normal:
      return ops::fill_normal(parameter.value,
                              {.seed = seed, .name = parameter.name, .std = parameter.init.scale});
    case Init::Kind::uniform:
      return ops::fill_uniform(parameter.value, {.seed = seed,
                                                 .name = parameter.name,
                                                 .low = -parameter.init.scale,
                                                 .high = parameter.init.scale});
  }
}

}  // namespace weft::nn
