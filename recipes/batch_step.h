// From a batch of the loader to the step of the layers.
#pragma once

#include "core/data/loader.h"
#include "core/models/decoder.h"

namespace weft::recipes {

// Shares the batch's tensors; fills what the decoder prepares.
nn::Step make_step(const data::Batch& batch, nn::Mode mode, const models::Decoder& decoder);

}  // namespace weft::recipes
