// Llama-3's scaling of rotary frequencies, as parameters (config.json) and as the tensor of factors
// that GGUF has instead (rope_freqs.weight).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace weft::checkpoint {

struct Llama3Scaling {
  double factor = 8;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  double original_context = 8192;
};

// One factor for each pair of a head: a frequency is divided by it.
std::vector<float> llama3_rope_factors(int64_t head_dim, double theta,
                                       const Llama3Scaling& scaling);

// Parameters that give these factors (to 1e-5); none when no usual choice does.
std::optional<Llama3Scaling> llama3_scaling_of(const std::vector<float>& factors, double theta);

}  // namespace weft::checkpoint
