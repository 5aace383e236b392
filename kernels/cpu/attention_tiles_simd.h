// What forward and backward attention do with tiles, for every instruction set (no include guard:
// see for_each_isa.h). Scores are kept transposed, [key][row], so that a row is a lane: the softmax
// needs no sum across lanes, and the products read the tile in the order of memory.
#include "kernels/cpu/tile_product_simd.h"

namespace weft::ops::cpu::WEFT_ISA {
namespace {

// c[keys][rows] = a[keys, depth] b[depth, rows], leaving out what no row sees.
void scores_product(const float* a, const float* b, float* c, const TileBounds& bounds,
                    const BlockSizes& sizes) {
  const int64_t strip = bounds.all_visible() ? sizes.rows : 2 * kLanes;
  for (int64_t r = 0; r < sizes.rows; r += strip) {
    const int64_t cols = std::min(strip, sizes.rows - r);
    const int64_t keys = round_up(bounds.keys_before_row(r + cols), kRowPadding);
    tile_product({keys, cols, sizes.head_dim, a, sizes.width, 1, b + r, sizes.rows, c + r,
                  sizes.rows, false});
  }
}

// c[rows, width] += transpose of p[keys][rows] times b[keys, width].
void rows_product(const float* p, const float* b, float* c, const TileBounds& bounds,
                  const BlockSizes& sizes) {
  const int64_t strip = bounds.all_visible() ? sizes.rows : kRowPadding;
  for (int64_t r = 0; r < sizes.rows; r += strip) {
    const int64_t keys = bounds.keys_before_row(r + strip);
    tile_product({strip, sizes.width, keys, p + r, 1, sizes.rows, b, sizes.width,
                  c + r * sizes.width, sizes.width, true});
  }
}

// rows of a block, [rows, width] f32 with zeros around them.
template <class T>
void load_block(const HeadsView& view, const QueryBlock& block, const BlockSizes& sizes,
                float* dst) {
  for (int64_t h = 0; h < block.num_heads; ++h) {
    const int64_t row = h * block.num_queries;
    const bool last = h + 1 == block.num_heads;
    load_tile(block_row<T>(view, block, row, sizes.head_dim), view.row_stride, block.num_queries,
              sizes.head_dim, dst + row * sizes.width, last ? sizes.rows - row : block.num_queries,
              sizes.width);
  }
}

void scale_tile(float* x, int64_t count, float factor) {
  for (int64_t i = 0; i < count; i += kLanes) store(x + i, load(x + i) * factor);
}

// to[n] = from[n] * factor.
template <class T>
void store_row(const float* from, float factor, int64_t n, T* to) {
  int64_t d = 0;
  for (; d + kLanes <= n; d += kLanes) store(to + d, load(from + d) * factor);
  if (d < n) store_part(to + d, load(from + d) * factor, n - d);
}

}  // namespace
}  // namespace weft::ops::cpu::WEFT_ISA
