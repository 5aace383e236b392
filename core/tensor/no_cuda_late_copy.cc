#include "core/tensor/late_copy.h"

namespace weft {

LateCopy::LateCopy(const Shape& shape, DType dtype, Device source)
    : host_(Tensor::empty(shape, dtype, source)) {}

void LateCopy::start(const Tensor& source) {
  CHECK(source.shape() == host_.shape(), "{} into {}", source.shape().to_string(),
        host_.shape().to_string());
  host_.copy_from(source);
}

const Tensor& LateCopy::wait() {
  return host_;
}

}  // namespace weft
