// From a batch of the loader to the step of the layers.
#pragma once

#include "core/data/loader.h"
#include "recipes/model.h"

namespace weft::recipes {

// The batch where the model is (shares its tensors on the CPU), and what the decoder prepares.
nn::Step make_step(const data::Batch& batch, nn::Mode mode, const Model& model);

}  // namespace weft::recipes
