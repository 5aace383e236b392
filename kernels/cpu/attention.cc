#include "core/ops/attention.h"

#include <cmath>

#include "kernels/cpu/attention_units.h"
#include "kernels/cpu/run_units.h"

#define WEFT_SIMD_FILE "kernels/cpu/attention_simd.h"
#include "kernels/cpu/for_each_isa.h"

namespace weft::ops::cpu {
namespace {

// Cuts the queries into blocks of at most kQueryBlock rows; few queries: several heads a block.
std::vector<QueryBlock> query_blocks(const AttentionArgs& args) {
  const AttentionShape& shape = args.shape;
  const int64_t group = shape.num_heads / shape.num_kv_heads;
  std::vector<QueryBlock> blocks;
  for (const AttentionDocument& document : *args.documents) {
    const int64_t heads = std::clamp<int64_t>(kQueryBlock / document.q_len, 1, group);
    for (int64_t first = 0; first < shape.num_heads; first += group)
      for (int64_t head = first; head < first + group; head += heads)
        for (int64_t query = 0; query < document.q_len; query += kQueryBlock)
          blocks.push_back({document, head, std::min(heads, first + group - head), query,
                            std::min(kQueryBlock, document.q_len - query)});
  }
  return blocks;
}

}  // namespace

void attention(const AttentionArgs& args) {
  const std::vector<QueryBlock> blocks = query_blocks(args);
  const int64_t count = static_cast<int64_t>(blocks.size());
  const int64_t width = round_up(args.shape.head_dim, 16);
  const int64_t floats = kQueryBlock * (5 * width + kKeyBlock);
  const auto kernel = args.dtype == DType::f32 ? SIMD_DISPATCH(attention_block<float>)
                                               : SIMD_DISPATCH(attention_block<bf16>);
  // From the last, which sees most keys, so that the threads end together.
  run_units(count, floats, [&](int64_t unit, float* scratch) {
    kernel(args, blocks[static_cast<size_t>(count - 1 - unit)], scratch);
  });
}

}  // namespace weft::ops::cpu
