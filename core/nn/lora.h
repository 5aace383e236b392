// The LoRA pass: freezes a blueprint and gives the members of its projections adapters.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/nn/lora_config.h"
#include "core/nn/projection.h"

namespace weft::nn {

// The adapter of one module.
struct AdapterSpec {
  int64_t rank = 16;
  double scale = 1;  // of B A
  bool dora = false;
};
// What a module ("model.layers.3.self_attn.q_proj") gets; nullopt: nothing.
using AdapterOf = std::function<std::optional<AdapterSpec>(const std::string& module)>;

// Freezes every parameter, then gives each member of the projections the adapter that `adapter_of`
// says. Adapters are `<module>.lora_A.weight`, `.lora_B.weight` and, with dora,
// `.lora_magnitude_vector`. A is uniform in +-1/sqrt(in) (PEFT's kaiming_uniform with a = sqrt 5),
// B zero. Returns how many there are.
int64_t apply_adapters(const std::vector<Projection*>& projections,
                       const std::vector<ParameterPtr>& parameters, const AdapterOf& adapter_of);

// The `lora:` section's adapters: a target is the last part of a module path ("q_proj"), a longer
// suffix of it ("self_attn.q_proj"), "all" (also "all-linear"), or "query_key_value" for q, k and
// v. Throws usage when a target matches nothing, naming it and what there is.
void apply_lora(const std::vector<Projection*>& projections,
                const std::vector<ParameterPtr>& parameters, const LoraConfig& config);

}  // namespace weft::nn
