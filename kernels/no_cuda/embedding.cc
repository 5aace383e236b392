#include "core/ops/embedding.h"

#include "kernels/no_cuda/no_cuda.h"

namespace weft::ops::cuda {

void embedding(const Tensor&, const Tensor&, const Tensor&) {
  no_cuda("embedding");
}
void embedding_backward(const Tensor&, const Tensor&, const Tensor&) {
  no_cuda("embedding_backward");
}

}  // namespace weft::ops::cuda
