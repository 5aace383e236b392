// The LoRA pass: freezes a blueprint and gives the members of its projections adapters.
#pragma once

#include <vector>

#include "core/nn/lora_config.h"
#include "core/nn/projection.h"

namespace weft::nn {

// Freezes every parameter, then adapts each member that a target names: the last part of its module
// path
// ("q_proj"), a longer suffix of it ("self_attn.q_proj"), "all" (also "all-linear"), or
// "query_key_value" for q, k and v. Adapters are `<module>.lora_A.weight`, `.lora_B.weight` and,
// with dora, `.lora_magnitude_vector`. A is uniform in +-1/sqrt(in) (PEFT's kaiming_uniform with a
// = sqrt 5), B zero. Throws usage when a target matches nothing, naming it and what there is.
void apply_lora(const std::vector<Projection*>& projections,
                const std::vector<ParameterPtr>& parameters, const LoraConfig& config);

}  // namespace weft::nn
