#include "core/nn/lora_config.h"

#include <cmath>

#include "core/base/error.h"

namespace weft::nn {

double LoraConfig::scale() const {
  const double r = static_cast<double>(rank);
  return rslora ? alpha / std::sqrt(r) : alpha / r;
}

void LoraConfig::visit(ConfigVisitor& v) {
  v.field("rank", rank, "rank of the adapters (PEFT: `r`)").between(1, 65536);
  v.field("alpha", alpha, "the adapter's output is scaled by alpha / rank").above(0);
  v.field("dropout", dropout, "share of the adapter's input set to zero in training")
      .between(0, 0.999);
  v.field(
      "targets", targets,
      "which matrices get an adapter: `all` (every linear layer but the head), or names such as "
      "`q_proj`, `v_proj`; `query_key_value` means q, k and v");
  v.field("rslora", rslora, "scale by alpha / sqrt(rank) instead");
  v.field("dora", dora, "also train the length of each output row (weight-decomposed LoRA)");
}

void LoraConfig::check() const {
  if (targets.empty())
    fail(ErrorKind::usage, "lora.targets is empty: name the layers to adapt, or write 'all'");
}

}  // namespace weft::nn
