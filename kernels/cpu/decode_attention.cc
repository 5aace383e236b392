#include "core/ops/decode_attention.h"

namespace weft::ops::cpu {

void decode_attention(const DecodeAttentionArgs& args) {
  std::vector<AttentionDocument> documents;
  for (int64_t b = 0; b < args.last_B.dim(0); ++b) {
    const int64_t first = args.first_B.data<int32_t>()[b], last = args.last_B.data<int32_t>()[b];
    CHECK(0 <= first && first <= last && last - first < args.longest,
          "[decode_attention] keys {} to {}, at most {}", first, last, args.longest);
    documents.push_back({.q_begin = b, .q_len = 1, .kv_begin = first, .kv_len = last - first + 1});
  }
  attention({.q = args.q,
             .k = args.k,
             .v = args.v,
             .o = args.o,
             .lse = {},
             .shape = args.shape,
             .documents = &documents,
             .dtype = args.dtype,
             .device = args.device});
}

}  // namespace weft::ops::cpu
