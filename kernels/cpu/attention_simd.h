// Forward attention of one block of queries (FlashAttention-2, alg. 1), for every instruction set
// (no include guard: see for_each_isa.h).
#include "kernels/cpu/attention_tiles_simd.h"

namespace weft::ops::cpu::WEFT_ISA {
namespace {

struct SoftmaxState {  // of the rows of a block, [padded rows]
  float* max;
  float* sum;
  float* rescale;          // what the sums so far must be multiplied with after a tile
  const int32_t* visible;  // last key that a row sees, counted from the tile's first
};

// scores[keys][rows] become exp(score - max); keys that a row does not see become 0.
void softmax_tile(float* scores, int64_t keys, int64_t rows, bool masked,
                  const SoftmaxState& state) {
  const Vec minus_infinity = splat(-__builtin_inff());
  for (int64_t r = 0; r < rows; r += kLanes) {
    if (masked) {
      Mask visible;
      std::memcpy(&visible, state.visible + r, sizeof visible);
      for (int64_t k = 0; k < keys; ++k) {
        float* s = scores + k * rows + r;
        store(s, select(visible >= static_cast<int32_t>(k), load(s), minus_infinity));
      }
    }
    const Vec old_max = load(state.max + r);
    Vec best[4] = {old_max, old_max, old_max, old_max};
    for (int64_t k = 0; k < keys; ++k) best[k & 3] = max(load(scores + k * rows + r), best[k & 3]);
    const Vec new_max = max(max(best[0], best[1]), max(best[2], best[3]));
    Vec sum = {};
    for (int64_t k = 0; k < keys; ++k) {
      float* s = scores + k * rows + r;
      const Vec p = exp(load(s) - new_max);
      sum += p;
      store(s, p);
    }
    const Vec rescale = exp(old_max - new_max);
    store(state.max + r, new_max);
    store(state.rescale + r, rescale);
    store(state.sum + r, load(state.sum + r) * rescale + sum);
  }
}

template <class T>
void store_block(const AttentionArgs& args, const QueryBlock& block, const BlockSizes& sizes,
                 const float* sums, const SoftmaxState& state) {
  for (int64_t r = 0; r < block.rows(); ++r) {
    store_row(sums + r * sizes.width, 1.0f / state.sum[r], sizes.head_dim,
              block_row<T>(args.o, block, r, sizes.head_dim));
    if (args.lse.defined()) *lse_of(args, block, r) = state.max[r] + std::log(state.sum[r]);
  }
}

template <class T>
void attention_block(const AttentionArgs& args, const QueryBlock& block, float* scratch) {
  const BlockSizes sizes = BlockSizes::of(args.shape, block.rows(), kLanes);
  float* queries = carve(scratch, sizes.rows * sizes.width);
  float* queries_t = carve(scratch, sizes.rows * sizes.width);
  float* keys = carve(scratch, kKeyBlock * sizes.width);
  float* values = carve(scratch, kKeyBlock * sizes.width);
  float* scores = carve(scratch, kKeyBlock * sizes.rows);
  float* sums = carve(scratch, sizes.rows * sizes.width);
  int32_t visible[kQueryBlock];
  float max[kQueryBlock], sum[kQueryBlock], rescale[kQueryBlock];
  const SoftmaxState state{max, sum, rescale, visible};
  std::fill_n(max, kQueryBlock, -__builtin_inff());
  std::fill_n(sum, kQueryBlock, 0.0f);
  std::memset(sums, 0, static_cast<size_t>(sizes.rows * sizes.width) * sizeof(float));

  load_block<T>(args.q, block, sizes, queries);
  scale_tile(queries, sizes.rows * sizes.width, args.shape.scale);
  transpose_tile(queries, sizes.width, sizes.rows, sizes.head_dim, queries_t);

  for (int64_t first = 0; first < block.keys(); first += kKeyBlock) {
    const TileBounds bounds = TileBounds::of(block, first);
    const int64_t padded = round_up(bounds.keys, kRowPadding);
    load_tile(kv_row<T>(args.k, args.shape, block, first), args.k.row_stride, bounds.keys,
              sizes.head_dim, keys, padded, sizes.width);
    load_tile(kv_row<T>(args.v, args.shape, block, first), args.v.row_stride, bounds.keys,
              sizes.head_dim, values, padded, sizes.width);
    fill_visible(block, first, sizes.rows, visible);
    scores_product(keys, queries_t, scores, bounds, sizes);
    softmax_tile(scores, bounds.keys, sizes.rows, !bounds.all_visible(), state);
    for (int64_t r = 0; first > 0 && r < sizes.rows; ++r)
      if (rescale[r] != 1.0f) scale_tile(sums + r * sizes.width, sizes.width, rescale[r]);
    rows_product(scores, values, sums, bounds, sizes);
  }
  store_block<T>(args, block, sizes, sums, state);
}

}  // namespace
}  // namespace weft::ops::cpu::WEFT_ISA
