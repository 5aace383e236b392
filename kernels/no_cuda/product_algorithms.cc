#include "core/ops/product_algorithms.h"

#include "kernels/no_cuda/no_cuda.h"

namespace weft::ops::cuda {

ProductLibrary product_library(int) {
  no_cuda("matmul");
}

}  // namespace weft::ops::cuda
