// A tensor's way to the host without waiting for the GPU: started now, read a few steps later.
#pragma once

#include <memory>

#include "core/tensor/tensor.h"

namespace weft {

// One place on the host (pinned where the source is a GPU's), used again and again.
class LateCopy {
 public:
  LateCopy(const Shape& shape, DType dtype, Device source);

  // Copies the source as it is at this point of the compute stream, which goes on at once and may
  // overwrite it behind that. Overwrites what wait() returned before.
  void start(const Tensor& source);
  // Returns when the copy of the last start() is complete, whatever was given to the stream since.
  const Tensor& wait();

 private:
  Tensor host_;
  std::shared_ptr<void> arrived_;  // a point of the compute stream; null: nothing is under way
};

}  // namespace weft
