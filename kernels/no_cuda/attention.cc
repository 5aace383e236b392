#include "core/ops/attention.h"

namespace weft::ops::cuda {

void attention(const AttentionArgs&) {
  fail(ErrorKind::unavailable, "[attention] this build has no GPU code");
}
void attention_backward(const AttentionBackwardArgs&) {
  fail(ErrorKind::unavailable, "[attention_backward] this build has no GPU code");
}

}  // namespace weft::ops::cuda
