// A model's weights with its adapters merged in: what an export writes.
#pragma once

#include "checkpoint/weight_source.h"
#include "recipes/model.h"

namespace weft::recipes {

// Under the base's names. A weight with an adapter is W + scale * B A (rows scaled to the magnitude
// for DoRA), computed in f32 a few rows at a time and rounded once into what is asked for. The
// model outlives it.
class MergedWeights : public checkpoint::WeightSource {
 public:
  explicit MergedWeights(const Model& model);

 private:
  void read_range(size_t position, int64_t begin, const Tensor& out) const override;
  Tensor merged_rows(const nn::ProjectionMember& member, int64_t begin, int64_t end) const;

  std::vector<nn::ParameterPtr> parameters_;
  std::vector<const nn::ProjectionMember*> members_;  // null: no adapter
};

// The adapters alone, under "<module>.lora_A.weight" and so on.
checkpoint::MemoryWeights adapter_weights(const Model& model);

}  // namespace weft::recipes
