#include "core/ops/cross_entropy.h"

namespace weft::ops::cuda {

void logits_stats(const Tensor&, const Tensor&, int64_t, const LogitsStats&) {
  fail(ErrorKind::unavailable, "[logits_stats] this build has no GPU code");
}
void token_loss(const LogitsStats&, const Tensor&, const TokenLoss&) {
  fail(ErrorKind::unavailable, "[token_loss] this build has no GPU code");
}
void dlogits_in_place(const Tensor&, const Tensor&, const Tensor&, const Tensor&, int64_t) {
  fail(ErrorKind::unavailable, "[dlogits_in_place] this build has no GPU code");
}

}  // namespace weft::ops::cuda
