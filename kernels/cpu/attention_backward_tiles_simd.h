// The tiles of backward attention, for every instruction set (no include guard: see
// for_each_isa.h).
#include "kernels/cpu/attention_tiles_simd.h"

namespace weft::ops::cpu::WEFT_ISA {
namespace {

// What the tiles of one block of queries share: [rows, width], and transposed [head_dim, rows].
struct BackwardBlock {
  float *queries, *queries_t;  // scaled
  float *dout, *dout_t;
  float* dq;
  float lse[kQueryBlock];
  float delta[kQueryBlock];  // sum of do * o, the softmax's own term
  int32_t visible[kQueryBlock];
};

struct BackwardTile {
  float *keys, *values;  // [keys, width]
  float* probs;          // [keys][rows]
  float* dscores;        // dprobs before, dscores after softmax_backward_tile
};

// scores and dprobs become probabilities and dscores; 0 where a row does not see a key.
void softmax_backward_tile(const BackwardBlock& block, const BackwardTile& tile, int64_t keys,
                           int64_t rows) {
  for (int64_t r = 0; r < rows; r += kLanes) {
    const Vec lse = load(block.lse + r), delta = load(block.delta + r);
    Mask visible;
    std::memcpy(&visible, block.visible + r, sizeof visible);
    for (int64_t k = 0; k < keys; ++k) {
      float* p = tile.probs + k * rows + r;
      float* ds = tile.dscores + k * rows + r;
      const Mask seen = visible >= static_cast<int32_t>(k);
      const Vec prob = select(seen, exp(load(p) - lse), Vec{});
      store(p, prob);
      store(ds, select(seen, prob * (load(ds) - delta), Vec{}));
    }
  }
}

// c[keys, width] += p[keys][rows] times b[rows, width].
void keys_product(const float* p, const float* b, float* c, const TileBounds& bounds,
                  const BlockSizes& sizes) {
  const int64_t padded = round_up(bounds.keys, kRowPadding);
  const int64_t strip = bounds.all_visible() ? padded : kRowPadding;
  for (int64_t k = 0; k < padded; k += strip) {
    const int64_t row = bounds.first_row(k);
    tile_product({strip, sizes.width, bounds.rows - row, p + k * sizes.rows + row, sizes.rows, 1,
                  b + row * sizes.width, sizes.width, c + k * sizes.width, sizes.width, true});
  }
}

template <class T>
void load_backward_block(const AttentionBackwardArgs& args, const QueryBlock& rows,
                         const BlockSizes& sizes, BackwardBlock& block) {
  const AttentionArgs& forward = args.forward;
  const int64_t floats = sizes.rows * sizes.width;
  load_block<T>(forward.o, rows, sizes, block.queries);  // o first, for delta
  load_block<T>(args.dout, rows, sizes, block.dout);
  for (int64_t r = 0; r < sizes.rows; ++r) {
    const float* o = block.queries + r * sizes.width;
    const float* dout = block.dout + r * sizes.width;
    Vec sum = {};
    for (int64_t d = 0; d < sizes.width; d += kLanes) sum += load(o + d) * load(dout + d);
    block.delta[r] = sum_lanes(sum);
    block.lse[r] = r < rows.rows() ? *lse_of(forward, rows, r) : 0.0f;
  }
  load_block<T>(forward.q, rows, sizes, block.queries);
  scale_tile(block.queries, floats, forward.shape.scale);
  transpose_tile(block.queries, sizes.width, sizes.rows, sizes.head_dim, block.queries_t);
  transpose_tile(block.dout, sizes.width, sizes.rows, sizes.head_dim, block.dout_t);
  std::memset(block.dq, 0, static_cast<size_t>(floats) * sizeof(float));
}

}  // namespace
}  // namespace weft::ops::cpu::WEFT_ISA
