// How attention is cut into pieces of work; shared by attention.cc and attention_backward.cc.
#pragma once

#include <algorithm>
#include <vector>

#include "core/ops/attention.h"

namespace weft::ops::cpu {

constexpr int64_t kQueryBlock = 64;  // rows of a tile of queries
constexpr int64_t kKeyBlock = 64;    // rows of a tile of keys

inline int64_t round_up(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Queries [query, query + num_queries) of heads [head, head + num_heads) of a document; the heads
// share a kv head. More than one head only if the document's queries are few (decoding): its keys
// are then read once for all of them. Row r of the block is query r % num_queries of head
// r / num_queries.
struct QueryBlock {
  AttentionDocument document;
  int64_t head = 0;
  int64_t num_heads = 0;
  int64_t query = 0;
  int64_t num_queries = 0;

  int64_t rows() const { return num_heads * num_queries; }
  int64_t head_of(int64_t row) const { return head + row / num_queries; }
  int64_t query_of(int64_t row) const { return query + row % num_queries; }
  // The last key that a row sees.
  int64_t last_key(int64_t row) const { return document.kv_len - document.q_len + query_of(row); }
  int64_t keys() const {  // seen by any row
    return document.kv_len - document.q_len + query + num_queries;
  }
};

// A QueryBlock against keys [first_key, first_key + keys): which rows see which keys. Bounds are
// tight for blocks of one head; with more, they are those of the whole tile.
struct TileBounds {
  int64_t keys;      // of the tile that any row sees
  int64_t rows;      // of the block
  int64_t diagonal;  // row r of a block of one head sees keys 0 .. diagonal + r of the tile
  bool one_head;

  static TileBounds of(const QueryBlock& block, int64_t first_key) {
    return {std::min(kKeyBlock, block.keys() - first_key), block.rows(),
            block.last_key(0) - first_key, block.num_heads == 1};
  }
  bool all_visible() const { return diagonal >= keys - 1; }
  // Keys that any row before `row_end` sees.
  int64_t keys_before_row(int64_t row_end) const {
    const int64_t row = std::min(row_end, rows);
    return one_head ? std::clamp<int64_t>(diagonal + row, 0, keys) : keys;
  }
  // First row that sees key `key`.
  int64_t first_row(int64_t key) const {
    return one_head ? std::clamp<int64_t>(key - diagonal, 0, rows) : 0;
  }
};

// The f32 tiles of a block: sides padded to whole vectors.
struct BlockSizes {
  int64_t rows;      // of queries, padded
  int64_t head_dim;  // as it is
  int64_t width;     // head_dim, padded

  static BlockSizes of(const AttentionShape& shape, int64_t rows, int64_t lanes) {
    return {round_up(rows, std::max<int64_t>(lanes, 8)), shape.head_dim,
            round_up(shape.head_dim, lanes)};
  }
};

// Takes `count` floats of a scratch; keeps it aligned.
inline float* carve(float*& scratch, int64_t count) {
  float* taken = scratch;
  scratch += round_up(count, 16);
  return taken;
}

// Where the head of a block's row lies in q, o, or their gradients.
template <class T>
T* block_row(const HeadsView& view, const QueryBlock& block, int64_t row, int64_t head_dim) {
  return static_cast<T*>(view.data) +
         (block.document.q_begin + block.query_of(row)) * view.row_stride +
         block.head_of(row) * head_dim;
}
// Where the kv head of a block lies in row `key` of its document in k, v, or their gradients.
template <class T>
T* kv_row(const HeadsView& view, const AttentionShape& shape, const QueryBlock& block,
          int64_t key) {
  const int64_t kv_head = block.head / (shape.num_heads / shape.num_kv_heads);
  return static_cast<T*>(view.data) + (block.document.kv_begin + key) * view.row_stride +
         kv_head * shape.head_dim;
}
inline float* lse_of(const AttentionArgs& args, const QueryBlock& block, int64_t row) {
  return args.lse.data<float>() +
         (block.document.q_begin + block.query_of(row)) * args.shape.num_heads + block.head_of(row);
}

// Last key that each row sees, counted from first_key; rows of padding see all.
inline void fill_visible(const QueryBlock& block, int64_t first_key, int64_t padded_rows,
                         int32_t* visible) {
  for (int64_t r = 0; r < padded_rows; ++r) {
    const int64_t last = r < block.rows() ? block.last_key(r) - first_key : kKeyBlock;
    visible[r] = static_cast<int32_t>(std::clamp<int64_t>(last, -1, kKeyBlock));
  }
}

}  // namespace weft::ops::cpu
