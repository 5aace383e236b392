// What an op of a build without CUDA says when it is asked for a GPU.
#pragma once

#include "core/base/error.h"

namespace weft::ops::cuda {

[[noreturn]] inline void no_cuda(const char* op) {
  fail(ErrorKind::unavailable,
       "[{}] this build of weft has no GPU code. Build it with the preset `cuda`, or train on the "
       "CPU.",
       op);
}

}  // namespace weft::ops::cuda
