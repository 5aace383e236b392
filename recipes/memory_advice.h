// What a run that is out of memory can change, and what each change saves.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/models/decoder_config.h"
#include "core/tensor/dtype.h"
#include "recipes/model.h"
#include "recipes/run_config.h"

namespace weft::recipes {

struct MemoryFacts {
  models::DecoderConfig model;
  DType dtype = DType::f32;          // of weights and activations
  int64_t trainable = 0, total = 0;  // parameters
  int64_t gradient_bytes = 0;        // an element's
  int ranks = 1;                     // that the optimizer's states are spread over
  Device device;                     // whose memory is out
};

struct Saving {
  std::string change;  // "train.micro_batch=2"
  double bytes = 0;
};

// Bytes that the tape keeps of one token over all blocks, where the model is. Of a frozen base
// without dropout: no outputs of norms and SwiGLU, whatever the plan.
double kept_bytes_a_token(const models::DecoderConfig& model, const models::RecomputePlan& plan,
                          DType dtype, bool plain_lora = false);

// The changes that this run can still make, largest saving first.
std::vector<Saving> memory_savings(const RunConfig& config, const MemoryFacts& facts);
// A line each: "  train.recompute=full saves about 12.3 GiB".
std::string memory_advice(const RunConfig& config, const MemoryFacts& facts);
// Runs work(); OutOfMemory is thrown on with the advice for this run.
void with_memory_advice(const RunConfig& config, const Model& model,
                        const std::function<void()>& work);

}  // namespace weft::recipes
