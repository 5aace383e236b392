// Examples laid end to end as the tensors of a micro-batch.
#pragma once

#include <span>

#include "core/data/loader.h"

namespace weft::data {

// The examples in this order, each a document of its own; empty ones are left out.
Batch make_batch(const Dataset& dataset, std::span<const int64_t> examples);

// Tokens of the example that are targets.
int64_t trained_tokens(const ExampleView& example);

}  // namespace weft::data
