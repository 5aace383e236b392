// Tensor: dtype, shape, device, shared storage and an offset into it; contiguous, row-major; no
// gradient.
#pragma once

#include <cstdint>
#include <memory>

#include "core/base/error.h"
#include "core/tensor/allocator.h"
#include "core/tensor/device.h"
#include "core/tensor/dtype.h"
#include "core/tensor/shape.h"

namespace weft {

class Tensor {
 public:
  Tensor() = default;  // undefined: no storage

  // Uninitialised memory.
  static Tensor empty(const Shape& shape, DType dtype, Device device = {},
                      MemoryTag tag = MemoryTag::activation);
  static Tensor zeros(const Shape& shape, DType dtype, Device device = {},
                      MemoryTag tag = MemoryTag::activation);
  static Tensor scalar(float value, Device device = {});  // [1] f32
  // Memory that somebody else owns (a mapped file, a test's vector); `owner` keeps it alive.
  static Tensor wrap(void* data, const Shape& shape, DType dtype, std::shared_ptr<void> owner,
                     Device device = {});

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  int64_t dim(int i) const { return shape_[i]; }
  int64_t numel() const { return numel_; }
  size_t bytes() const { return static_cast<size_t>(numel_) * size_of(dtype_); }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }

  void* raw() const { return data_; }
  // Typed pointer to the first element. CHECKs that the dtype is T's.
  template <class T>
  T* data() const {
    CHECK(dtype_ == dtype_of<T>::value, "tensor is {}", name_of(dtype_));
    return static_cast<T*>(data_);
  }

  // Views share the storage. CHECK that they fit.
  Tensor reshape(const Shape& shape) const;
  Tensor rows(int64_t begin, int64_t end) const;         // along dim 0
  Tensor flat(int64_t begin, const Shape& shape) const;  // from element `begin` of this one
  bool same_storage(const Tensor& other) const { return storage_ == other.storage_; }
  const std::shared_ptr<void>& storage() const { return storage_; }

  void zero_() const;                       // asynchronous on a GPU
  void copy_from(const Tensor& src) const;  // same dtype and numel, any devices
  // This tensor where it is there already, else a copy. Asynchronous on a GPU; from the host this
  // tensor may change on return; to the host it is done on return.
  Tensor to(Device device, MemoryTag tag = MemoryTag::activation) const;
  Tensor clone(MemoryTag tag = MemoryTag::activation) const;

 private:
  std::shared_ptr<void> storage_;
  void* data_ = nullptr;
  Shape shape_;
  int64_t numel_ = 0;
  DType dtype_ = DType::f32;
  Device device_;
};

// What ops compute in: f32 and bf16 everywhere, f16 on GPUs.
bool is_compute_type(DType dtype, Device device);

}  // namespace weft
