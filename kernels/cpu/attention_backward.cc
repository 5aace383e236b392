#include <cmath>

#include "core/ops/attention.h"
#include "kernels/cpu/attention_units.h"
#include "kernels/cpu/run_units.h"

namespace weft::ops::cpu {
namespace {

// A unit of work: keys [begin, end) of one kv head of a document, with all queries that see them.
// Units never write the same dk, dv, or partial dq, so their order does not matter.
struct KeyRange {
  AttentionDocument document;
  int64_t kv_head = 0;
  int64_t begin = 0;
  int64_t end = 0;
  float* partial_dq = nullptr;  // [queries that see it, num_heads * head_dim]; null: dq is whole

  int64_t first_query() const {
    return std::max<int64_t>(0, begin - (document.kv_len - document.q_len));
  }
  float* partial_row(int64_t query, int64_t head, const AttentionShape& shape) const {
    return partial_dq + ((query - first_query()) * shape.num_heads + head) * shape.head_dim;
  }
};

}  // namespace
}  // namespace weft::ops::cpu

#define WEFT_SIMD_FILE "kernels/cpu/attention_backward_simd.h"
#include "kernels/cpu/for_each_isa.h"

namespace weft::ops::cpu {
namespace {

// A long document is cut into at most four ranges of keys: enough for the threads to share, few
// enough for the partial dq. The cut depends on its length only, as the sums' order does.
int64_t keys_per_range(const AttentionDocument& document) {
  return std::max<int64_t>(256, round_up((document.kv_len + 3) / 4, kKeyBlock));
}

// Ranges of every document, kv head fastest: a document's ranges of kv head h are h, h +
// num_kv_heads..
struct Work {
  std::vector<KeyRange> ranges;
  std::vector<Tensor> partials;  // own what partial_dq points to
  int64_t longest = 0;
};

Work cut(const AttentionArgs& args) {
  Work work;
  const AttentionShape& shape = args.shape;
  for (const AttentionDocument& document : *args.documents) {
    const int64_t length = keys_per_range(document);
    for (int64_t begin = 0; begin < document.kv_len; begin += length) {
      KeyRange range{document, 0, begin, std::min(begin + length, document.kv_len)};
      work.longest = std::max(work.longest, range.end - range.begin);
      if (length < document.kv_len) {
        const int64_t queries = document.q_len - range.first_query();
        work.partials.push_back(Tensor::empty({queries, shape.num_heads * shape.head_dim},
                                              DType::f32, {}, MemoryTag::workspace));
        range.partial_dq = work.partials.back().data<float>();
      }
      for (; range.kv_head < shape.num_kv_heads; ++range.kv_head) work.ranges.push_back(range);
    }
  }
  return work;
}

template <class T>
void sum_partials(const AttentionBackwardArgs& args, const Work& work) {
  const AttentionShape& shape = args.forward.shape;
  const auto kernel = SIMD_DISPATCH(sum_partial_dq<T>);
  std::vector<KeyRange> ranges;  // of one document, kv head 0
  for (size_t i = 0; i < work.ranges.size(); i += static_cast<size_t>(shape.num_kv_heads)) {
    ranges.push_back(work.ranges[i]);
    const AttentionDocument& document = ranges.back().document;
    if (ranges.back().end < document.kv_len) continue;
    if (ranges.back().partial_dq) {
      parallel_for(document.q_len, 16, [&](int64_t begin, int64_t end) {
        for (int64_t query = begin; query < end; ++query)
          kernel(ranges.data(), static_cast<int64_t>(ranges.size()), query, shape,
                 static_cast<T*>(args.dq.data) + (document.q_begin + query) * args.dq.row_stride);
      });
    }
    ranges.clear();
  }
}

}  // namespace

void attention_backward(const AttentionBackwardArgs& args) {
  const Work work = cut(args.forward);
  const int64_t width = round_up(args.forward.shape.head_dim, 16);
  const int64_t floats = 7 * kQueryBlock * width + 2 * kKeyBlock * kQueryBlock +
                         2 * round_up(work.longest, kKeyBlock) * width;
  const bool f32 = args.forward.dtype == DType::f32;
  const auto kernel = f32 ? SIMD_DISPATCH(attention_backward_unit<float>)
                          : SIMD_DISPATCH(attention_backward_unit<bf16>);
  run_units(static_cast<int64_t>(work.ranges.size()), floats, [&](int64_t unit, float* scratch) {
    kernel(args, work.ranges[static_cast<size_t>(unit)], scratch);
  });
  f32 ? sum_partials<float>(args, work) : sum_partials<bf16>(args, work);
}

}  // namespace weft::ops::cpu
