#include "core/ops/decode_attention.h"

#include "kernels/no_cuda/no_cuda.h"

namespace weft::ops::cuda {

void decode_attention(const DecodeAttentionArgs&) {
  no_cuda("decode_attention");
}

}  // namespace weft::ops::cuda
