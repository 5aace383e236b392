// Kernels around the library's products, for every instruction set (no include guard:
// see for_each_isa.h).
namespace weft::ops::cpu::WEFT_ISA {
namespace {

// A few rows times the transpose of a matrix whose rows lie in memory as they are multiplied:
// the matrix is read once, which is what bounds decoding.
template <class T, int Rows>
void dot_rows(const RowsTimesTransposed& p, int64_t begin, int64_t end) {
  constexpr int kColumns =
      4;  // rows of b at once: streams for the prefetcher, chains for the adder
  int64_t n = begin;
  while (n < end) {
    const int columns = static_cast<int>(end - n < kColumns ? end - n : kColumns);
    const T* b[kColumns];
    for (int j = 0; j < kColumns; ++j)
      b[j] = static_cast<const T*>(p.b) + (n + (j < columns ? j : 0)) * p.b_stride;
    Vec sums[Rows][kColumns] = {};
    int64_t k = 0;
    for (; k + kLanes <= p.depth; k += kLanes) {
      Vec bk[kColumns];
      for (int j = 0; j < kColumns; ++j) bk[j] = load(b[j] + k);
      for (int i = 0; i < Rows; ++i) {
        const Vec ak = load(p.a + i * p.depth + k);
        for (int j = 0; j < kColumns; ++j) sums[i][j] += ak * bk[j];
      }
    }
    if (k < p.depth) {
      for (int j = 0; j < kColumns; ++j) {
        const Vec bk = load_part(b[j] + k, p.depth - k);
        for (int i = 0; i < Rows; ++i)
          sums[i][j] += load_part(p.a + i * p.depth + k, p.depth - k) * bk;
      }
    }
    for (int i = 0; i < Rows; ++i)
      for (int j = 0; j < columns; ++j) p.out[i * p.width + n + j] = sum_lanes(sums[i][j]);
    n += columns;
  }
}

template <class T>
void rows_times_transposed(const RowsTimesTransposed& p, int64_t begin, int64_t end) {
  constexpr void (*kByRows[])(const RowsTimesTransposed&, int64_t, int64_t) = {
      dot_rows<T, 1>, dot_rows<T, 2>, dot_rows<T, 3>, dot_rows<T, 4>,
      dot_rows<T, 5>, dot_rows<T, 6>, dot_rows<T, 7>, dot_rows<T, 8>};
  static_assert(std::size(kByRows) == kFewRows);
  kByRows[p.rows - 1](p, begin, end);
}

// out = in in another dtype.
template <class From, class To>
void convert_row(const From* in, To* out, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, load(in + i));
  if (i < n) store_part(out + i, load_part(in + i, n - i), n - i);
}

// c = alpha * sum (+ c), rounded once.
template <class T>
void finish_row(const float* sum, T* c, int64_t n, const MatmulOptions& options) {
  const Vec alpha = splat(options.alpha);
  const bool add = options.accumulate;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vec v = alpha * load(sum + i);
    store(c + i, add ? v + load(c + i) : v);
  }
  if (i == n) return;
  const Vec v = alpha * load_part(sum + i, n - i);
  store_part(c + i, add ? v + load_part(c + i, n - i) : v, n - i);
}

}  // namespace
}  // namespace weft::ops::cpu::WEFT_ISA
