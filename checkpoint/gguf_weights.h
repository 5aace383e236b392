// The tensors of a GGUF under Hugging Face names and in Hugging Face order, dequantised on reading.
#pragma once

#include <memory>
#include <vector>

#include "checkpoint/gguf.h"
#include "checkpoint/weight_source.h"

namespace weft::checkpoint {

// F32, F16, BF16, Q8_0, Q4_0 and Q4_1. rope_freqs.weight is not a weight: see gguf_config.h.
class GgufWeights : public WeightSource {
 public:
  // Throws bad_data when a tensor has another type, or q and k cannot be put in order.
  explicit GgufWeights(std::shared_ptr<const GgufFile> file);

 private:
  struct Place {
    size_t tensor = 0;
    int64_t head_dim = 0;  // of a tensor whose rows are rotated; 0: as they are
  };

  int64_t rotated_head_dim(const GgufTensor& tensor, const std::string& name) const;
  void read_range(size_t position, int64_t begin, const Tensor& out) const override;
  void decode(const GgufTensor& tensor, int64_t begin, int64_t count, const Tensor& out,
              int64_t at) const;

  std::shared_ptr<const GgufFile> file_;
  std::vector<Place> places_;  // in the order of weights()
};

}  // namespace weft::checkpoint
