// A tensor on its way to the host.
#pragma once

#include <memory>

#include "core/tensor/tensor.h"

namespace weft {

// Asks for a tensor's values of this moment and goes on; they are there when get() returns. On the
// CPU that is a copy.
class Readback {
 public:
  Readback() = default;  // of nothing
  explicit Readback(const Tensor& source);

  bool pending() const { return host_.defined(); }
  const Tensor& get() const;  // waits; throws what went wrong on the GPU before

 private:
  Tensor host_;
  std::shared_ptr<void> arrival_;  // null: it is there
};

}  // namespace weft
