// Products of small f32 tiles that lie in cache; included by the *_simd.h files that need
// them (no include guard: see for_each_isa.h).
namespace weft::ops::cpu::WEFT_ISA {
namespace {

constexpr int kTileRows = WEFT_LANES == 16 ? 8 : 4;  // kTileRows x 2 vectors fill the registers
constexpr int64_t kRowPadding = 8;                   // rows of a product: a multiple of this

// c[rows, cols] = (or += with `add`) a[rows, depth] b[depth, cols]; element (i, k) of a lies at
// a[i * a_row + k * a_depth]. rows is a multiple of kRowPadding, cols of kLanes.
struct TileProduct {
  int64_t rows, cols, depth;
  const float* a;
  int64_t a_row, a_depth;
  const float* b;
  int64_t b_row;
  float* c;
  int64_t c_row;
  bool add;
};

template <int Vecs>
WEFT_INLINE void small_product(const TileProduct& p, int64_t row, int64_t col) {
  const float* a = p.a + row * p.a_row;
  const float* b = p.b + col;
  float* c = p.c + row * p.c_row + col;
  Vec sum[kTileRows][Vecs] = {};
  if (p.add) {
    for (int i = 0; i < kTileRows; ++i)
      for (int j = 0; j < Vecs; ++j) sum[i][j] = load(c + i * p.c_row + j * kLanes);
  }
  for (int64_t k = 0; k < p.depth; ++k) {
    Vec bk[Vecs];
    for (int j = 0; j < Vecs; ++j) bk[j] = load(b + k * p.b_row + j * kLanes);
    for (int i = 0; i < kTileRows; ++i) {
      const Vec aik = splat(a[i * p.a_row + k * p.a_depth]);
      for (int j = 0; j < Vecs; ++j) sum[i][j] += aik * bk[j];
    }
  }
  for (int i = 0; i < kTileRows; ++i)
    for (int j = 0; j < Vecs; ++j) store(c + i * p.c_row + j * kLanes, sum[i][j]);
}

void tile_product(const TileProduct& p) {
  int64_t col = 0;
  for (; col + 2 * kLanes <= p.cols; col += 2 * kLanes)
    for (int64_t row = 0; row < p.rows; row += kTileRows) small_product<2>(p, row, col);
  for (; col < p.cols; col += kLanes)
    for (int64_t row = 0; row < p.rows; row += kTileRows) small_product<1>(p, row, col);
}

// dst[padded_rows, padded_width] f32 = src[rows, width], zeros around it.
template <class T>
void load_tile(const T* src, int64_t src_row, int64_t rows, int64_t width, float* dst,
               int64_t padded_rows, int64_t padded_width) {
  for (int64_t i = 0; i < rows; ++i) {
    const T* from = src + i * src_row;
    float* to = dst + i * padded_width;
    int64_t d = 0;
    for (; d + kLanes <= width; d += kLanes) store(to + d, load(from + d));
    if (d < width) store(to + d, load_part(from + d, width - d)), d += kLanes;
    for (; d < padded_width; ++d) to[d] = 0.0f;
  }
  std::memset(dst + rows * padded_width, 0,
              static_cast<size_t>((padded_rows - rows) * padded_width) * sizeof(float));
}

// dst[cols, rows] = src[rows, cols] transposed; rows (a multiple of 4) and cols within src_row.
void transpose_tile(const float* src, int64_t src_row, int64_t rows, int64_t cols, float* dst) {
  for (int64_t j = 0; j < cols; ++j)
    for (int64_t i = 0; i < rows; i += 4) {
      const float* from = src + i * src_row + j;
      float* to = dst + j * rows + i;
      for (int n = 0; n < 4; ++n) to[n] = from[n * src_row];
    }
}

}  // namespace
}  // namespace weft::ops::cpu::WEFT_ISA
