// Backward attention of some keys of a document (FlashAttention-2, alg. 2), for every instruction
// set (no include guard: see for_each_isa.h): probabilities are computed again from the forward's
// lse, tile by tile.
#include "kernels/cpu/attention_backward_tiles_simd.h"

namespace weft::ops::cpu::WEFT_ISA {
namespace {

// One block of queries against the unit's keys; dk and dv are the unit's sums, [keys, width].
template <class T>
void backward_block(const AttentionBackwardArgs& args, const KeyRange& range,
                    const QueryBlock& rows, BackwardBlock& block, const BackwardTile& tile,
                    float* dk, float* dv) {
  const AttentionArgs& forward = args.forward;
  const BlockSizes sizes = BlockSizes::of(forward.shape, rows.rows(), kLanes);
  load_backward_block<T>(args, rows, sizes, block);
  const int64_t end = std::min(range.end, rows.keys());
  for (int64_t first = range.begin; first < end; first += kKeyBlock) {
    const TileBounds bounds = TileBounds::of(rows, first);
    const int64_t padded = round_up(bounds.keys, kRowPadding);
    load_tile(kv_row<T>(forward.k, forward.shape, rows, first), forward.k.row_stride, bounds.keys,
              sizes.head_dim, tile.keys, padded, sizes.width);
    load_tile(kv_row<T>(forward.v, forward.shape, rows, first), forward.v.row_stride, bounds.keys,
              sizes.head_dim, tile.values, padded, sizes.width);
    fill_visible(rows, first, sizes.rows, block.visible);
    scores_product(tile.keys, block.queries_t, tile.probs, bounds, sizes);
    scores_product(tile.values, block.dout_t, tile.dscores, bounds, sizes);
    softmax_backward_tile(block, tile, padded, sizes.rows);
    const int64_t offset = (first - range.begin) * sizes.width;
    keys_product(tile.probs, block.dout, dv + offset, bounds, sizes);
    keys_product(tile.dscores, block.queries, dk + offset, bounds, sizes);
    rows_product(tile.dscores, tile.keys, block.dq, bounds, sizes);
  }
}

// dk and dv of a range of keys of one kv head, and its share of dq: all of it when the range is the
// whole document, else into partial_dq.
template <class T>
void attention_backward_unit(const AttentionBackwardArgs& args, const KeyRange& range,
                             float* scratch) {
  const AttentionShape& shape = args.forward.shape;
  const BlockSizes sizes = BlockSizes::of(shape, kQueryBlock, kLanes);
  const int64_t floats = kQueryBlock * sizes.width;
  BackwardBlock block;
  for (float** buffer : {&block.queries, &block.queries_t, &block.dout, &block.dout_t, &block.dq})
    *buffer = carve(scratch, floats);
  const BackwardTile tile{carve(scratch, floats), carve(scratch, floats),
                          carve(scratch, kKeyBlock * kQueryBlock),
                          carve(scratch, kKeyBlock * kQueryBlock)};
  const int64_t key_floats = round_up(range.end - range.begin, kKeyBlock) * sizes.width;
  float* dk = carve(scratch, key_floats);
  float* dv = carve(scratch, key_floats);
  std::memset(dk, 0, static_cast<size_t>(key_floats) * sizeof(float));
  std::memset(dv, 0, static_cast<size_t>(key_floats) * sizeof(float));

  const int64_t group = shape.num_heads / shape.num_kv_heads;
  const AttentionDocument& document = range.document;
  for (int64_t head = range.kv_head * group; head < (range.kv_head + 1) * group; ++head) {
    for (int64_t query = range.first_query(); query < document.q_len; query += kQueryBlock) {
      const QueryBlock rows{document, head, 1, query,
                            std::min(kQueryBlock, document.q_len - query)};
      backward_block<T>(args, range, rows, block, tile, dk, dv);
      for (int64_t r = 0; r < rows.rows(); ++r) {
        const float* from = block.dq + r * sizes.width;
        if (range.partial_dq)
          store_row(from, shape.scale, sizes.head_dim, range.partial_row(query + r, head, shape));
        else
          store_row(from, shape.scale, sizes.head_dim,
                    block_row<T>(args.dq, rows, r, sizes.head_dim));
      }
    }
  }
  const QueryBlock any{document, range.kv_head * group, 1, 0, 1};
  for (int64_t key = range.begin; key < range.end; ++key) {
    const int64_t offset = (key - range.begin) * sizes.width;
    store_row(dk + offset, 1.0f, sizes.head_dim, kv_row<T>(args.dk, shape, any, key));
    store_row(dv + offset, 1.0f, sizes.head_dim, kv_row<T>(args.dv, shape, any, key));
  }
}

// dq of one query: the sum of what the ranges of keys that it sees have left, in their order.
template <class T>
void sum_partial_dq(const KeyRange* ranges, int64_t count, int64_t query,
                    const AttentionShape& shape, T* dq) {
  const int64_t n = shape.num_heads * shape.head_dim;
  for (int64_t d = 0; d < n; d += kLanes) {
    const int64_t part = std::min(kLanes, n - d);
    Vec sum = {};
    for (int64_t c = 0; c < count; ++c) {
      if (query < ranges[c].first_query()) break;
      sum += load_part(ranges[c].partial_row(query, 0, shape) + d, part);
    }
    store_part(dq + d, sum, part);
  }
}

}  // namespace
}  // namespace weft::ops::cpu::WEFT_ISA
