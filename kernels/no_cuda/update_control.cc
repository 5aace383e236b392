#include "core/ops/update_control.h"

#include "kernels/no_cuda/no_cuda.h"

namespace weft::ops::cuda {

void update_control(const UpdateControlArgs&) {
  no_cuda("update_control");
}

}  // namespace weft::ops::cuda
