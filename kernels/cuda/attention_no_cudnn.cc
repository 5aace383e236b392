// A build without cuDNN: our own attention kernels do it all.
#include "core/base/error.h"
#include "kernels/cuda/attention_cudnn_plan.h"

namespace weft::ops::cuda::cudnn {

const PlanOrReason& plan_for(const PlanKey&) {
  fail(ErrorKind::internal, "[attention] {}", why_unavailable());
}

const std::string& why_unavailable() {
  static const std::string why = "this build has no cuDNN";
  return why;
}

std::string version() {
  return "";
}

}  // namespace weft::ops::cuda::cudnn
