#include "core/tensor/readback.h"

#include "core/tensor/device_memory.h"

namespace weft {

Readback::Readback(const Tensor& source) {
  if (source.device().is_cpu()) {
    host_ = source.clone();
    return;
  }
  std::shared_ptr<void> memory = device_memory::pinned(source.bytes());
  void* data = memory.get();
  host_ = Tensor::wrap(data, source.shape(), source.dtype(), std::move(memory));
  arrival_ = device_memory::copy_later(data, source.raw(), source.bytes(), source.device().index);
}

const Tensor& Readback::get() const {
  CHECK(pending(), "a readback of nothing");
  if (arrival_) device_memory::wait(arrival_);
  return host_;
}

}  // namespace weft
