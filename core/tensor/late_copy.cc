#include "core/tensor/late_copy.h"

#include "core/tensor/device_memory.h"

namespace weft {

LateCopy::LateCopy(const Shape& shape, DType dtype, Device source) {
  if (source.is_cpu()) {
    host_ = Tensor::empty(shape, dtype);
    return;
  }
  const size_t bytes = static_cast<size_t>(shape.numel()) * size_of(dtype);
  const std::shared_ptr<void> pinned = device_memory::pinned(bytes > 0 ? bytes : 1);
  host_ = Tensor::wrap(pinned.get(), shape, dtype, pinned);
}

void LateCopy::start(const Tensor& source) {
  CHECK(source.shape() == host_.shape() && source.dtype() == host_.dtype(), "{} {} into {} {}",
        name_of(source.dtype()), source.shape().to_string(), name_of(host_.dtype()),
        host_.shape().to_string());
  if (source.device().is_cpu()) return host_.copy_from(source);
  arrived_ =
      device_memory::copy_later(host_.raw(), source.raw(), source.bytes(), source.device().index);
}

const Tensor& LateCopy::wait() {
  if (arrived_) device_memory::wait(arrived_);
  return host_;
}

}  // namespace weft
