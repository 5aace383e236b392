#include "core/tensor/tensor.h"

#include <cstring>

#include "core/tensor/device_memory.h"

namespace weft {

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device, MemoryTag tag) {
  const size_t bytes = static_cast<size_t>(shape.numel()) * size_of(dtype);
  std::shared_ptr<void> storage = allocate(bytes, device, tag);
  void* data = storage.get();
  return wrap(data, shape, dtype, std::move(storage), device);
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device, MemoryTag tag) {
  Tensor t = empty(shape, dtype, device, tag);
  t.zero_();
  return t;
}

Tensor Tensor::scalar(float value, Device device) {
  const Tensor host = empty({1}, DType::f32);
  *host.data<float>() = value;
  return host.to(device);
}

Tensor Tensor::wrap(void* data, const Shape& shape, DType dtype, std::shared_ptr<void> owner,
                    Device device) {
  Tensor t;
  t.storage_ = std::move(owner);
  t.data_ = data;
  t.shape_ = shape;
  t.numel_ = shape.numel();
  t.dtype_ = dtype;
  t.device_ = device;
  return t;
}

Tensor Tensor::reshape(const Shape& shape) const {
  CHECK(shape.numel() == numel_, "{} to {}", shape_.to_string(), shape.to_string());
  Tensor t = *this;
  t.shape_ = shape;
  return t;
}

Tensor Tensor::rows(int64_t begin, int64_t end) const {
  CHECK(rank() >= 1 && 0 <= begin && begin <= end && end <= dim(0), "rows {}..{} of {}", begin, end,
        shape_.to_string());
  Shape shape = shape_;
  shape[0] = end - begin;
  return flat(dim(0) == 0 ? 0 : begin * (numel_ / dim(0)), shape);
}

Tensor Tensor::flat(int64_t begin, const Shape& shape) const {
  CHECK(begin >= 0 && begin + shape.numel() <= numel_, "{} elements from {} of {}", shape.numel(),
        begin, numel_);
  Tensor t = *this;
  t.data_ = static_cast<char*>(data_) + static_cast<size_t>(begin) * size_of(dtype_);
  t.shape_ = shape;
  t.numel_ = shape.numel();
  return t;
}

void Tensor::zero_() const {
  if (numel_ == 0) return;
  if (device_.is_cpu())
    std::memset(data_, 0, bytes());
  else
    device_memory::zero(data_, bytes(), device_.index);
}

void Tensor::copy_from(const Tensor& src) const {
  CHECK(src.numel() == numel_ && src.dtype() == dtype_, "{} {} from {} {}", name_of(dtype_),
        shape_.to_string(), name_of(src.dtype()), src.shape().to_string());
  if (numel_ == 0) return;
  if (device_.is_cpu() && src.device().is_cpu())
    std::memmove(data_, src.raw(), bytes());
  else
    device_memory::copy(data_, device_, src.raw(), src.device(), bytes());
}

Tensor Tensor::to(Device device, MemoryTag tag) const {
  if (device == device_) return *this;
  Tensor t = empty(shape_, dtype_, device, tag);
  t.copy_from(*this);
  return t;
}

bool is_compute_type(DType dtype, Device device) {
  return dtype == DType::f32 || dtype == DType::bf16 || (dtype == DType::f16 && !device.is_cpu());
}

Tensor Tensor::clone(MemoryTag tag) const {
  Tensor t = empty(shape_, dtype_, device_, tag);
  t.copy_from(*this);
  return t;
}

}  // namespace weft
