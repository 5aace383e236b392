#include "core/nn/parameter.h"

#include <algorithm>

namespace weft::nn {

bool take_stale(const std::vector<ParameterPtr>& parameters) {
  const bool all = std::all_of(parameters.begin(), parameters.end(),
                               [](const ParameterPtr& p) { return p->stale; });
  for (const ParameterPtr& p : parameters) {
    if (p->stale && !all) p->grad.zero_();
    p->stale = false;
  }
  return all;
}

}  // namespace weft::nn
