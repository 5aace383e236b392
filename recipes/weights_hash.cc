#include <xxhash.h>

#include "recipes/model.h"

namespace weft::recipes {

std::string weights_hash(const checkpoint::WeightSource& weights) {
  constexpr int64_t kElementsAtOnce = int64_t{1} << 20;
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                 &XXH3_freeState);
  XXH3_128bits_reset(state.get());
  for (const checkpoint::WeightInfo& info : weights.weights()) {
    const std::string head = info.name + info.shape.to_string() + info.stored_as;
    XXH3_128bits_update(state.get(), head.data(), head.size());
    const int64_t numel = info.shape.numel();
    for (int64_t begin = 0; begin < numel; begin += kElementsAtOnce) {
      const int64_t count = std::min(kElementsAtOnce, numel - begin);
      const Tensor part = Tensor::empty({count}, info.dtype, {}, MemoryTag::workspace);
      weights.read(info.name, begin, part);
      XXH3_128bits_update(state.get(), part.raw(), part.bytes());
    }
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace weft::recipes
