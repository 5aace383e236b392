#include "checkpoint/rope_scaling.h"

#include <cmath>

namespace weft::checkpoint {
namespace {

bool close(const std::vector<float>& a, const std::vector<float>& b) {
  for (size_t i = 0; i < a.size(); ++i)
    if (!(std::abs(a[i] - b[i]) <= 1e-5f * std::abs(b[i]))) return false;
  return true;
}

}  // namespace

std::vector<float> llama3_rope_factors(int64_t head_dim, double theta,
                                       const Llama3Scaling& scaling) {
  const double low_wavelength = scaling.original_context / scaling.low_freq_factor;
  const double high_wavelength = scaling.original_context / scaling.high_freq_factor;
  std::vector<float> factors;
  for (int64_t i = 0; i < head_dim; i += 2) {
    const double frequency =
        std::pow(theta, -static_cast<double>(i) / static_cast<double>(head_dim));
    const double wavelength = 2 * M_PI / frequency;
    double factor = 1;
    if (wavelength > low_wavelength) {
      factor = scaling.factor;
    } else if (wavelength >= high_wavelength) {
      const double smooth = (scaling.original_context / wavelength - scaling.low_freq_factor) /
                            (scaling.high_freq_factor - scaling.low_freq_factor);
      factor = 1 / ((1 - smooth) / scaling.factor + smooth);
    }
    factors.push_back(static_cast<float>(factor));
  }
  return factors;
}

std::optional<Llama3Scaling> llama3_scaling_of(const std::vector<float>& factors, double theta) {
  if (factors.empty() || factors.size() > 4096) return std::nullopt;
  const auto head_dim = static_cast<int64_t>(2 * factors.size());
  // The last factor is the whole one unless the longest wave is still in the ramp.
  std::vector<double> wholes = {factors.back(), 8, 32, 16, 4, 2, 64};
  std::vector<double> contexts = {8192};
  for (double context = 16; context <= (1 << 20); context *= 2) contexts.push_back(context);
  for (double whole : wholes) {
    for (double context : contexts) {
      const Llama3Scaling scaling{whole, 1, 4, context};
      if (close(llama3_rope_factors(head_dim, theta, scaling), factors)) return scaling;
    }
  }
  return std::nullopt;
}

}  // namespace weft::checkpoint
