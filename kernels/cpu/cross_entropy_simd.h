// Rows of logits, for every instruction set (no include guard: see for_each_isa.h).
namespace weft::ops::cpu::WEFT_ISA {
namespace {

// The greatest logit and its lowest index, over row[begin, end) and what `best` holds already.
template <class T>
void find_greatest(const T* row, int64_t begin, int64_t end, RowStats& best) {
  Vec greatest = splat(best.max);
  Mask index = {};
  index += best.argmax;
  Mask at = lane_index() + static_cast<int32_t>(begin);
  for (int64_t i = begin; i < end; i += kLanes) {
    const Vec x =
        i + kLanes <= end ? load(row + i) : load_part(row + i, end - i, -__builtin_inff());
    const Mask greater = x > greatest;
    greatest = greater ? x : greatest;
    index = greater ? at : index;
    at += static_cast<int32_t>(kLanes);
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    const bool better =
        greatest[lane] > best.max || (greatest[lane] == best.max && index[lane] < best.argmax);
    if (better) best.max = greatest[lane], best.argmax = index[lane];
  }
}

// One pass over the row, a piece that stays in cache at a time.
template <class T>
RowStats logits_row(const T* row, int64_t n) {
  constexpr int64_t kPiece = 2048;
  RowStats stats{-__builtin_inff(), 0.0f, 0};
  Vec sum = {};
  for (int64_t begin = 0; begin < n; begin += kPiece) {
    const int64_t end = begin + kPiece < n ? begin + kPiece : n;
    const float old_max = stats.max;
    find_greatest(row, begin, end, stats);
    const Vec max = splat(stats.max);
    if (begin > 0 && stats.max != old_max) sum *= exp(splat(old_max) - max);
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) sum += exp(load(row + i) - max);
    if (i < end) sum += exp(load_part(row + i, end - i, -__builtin_inff()) - max);
  }
  stats.sum_exp = sum_lanes(sum);
  return stats;
}

// row = (exp(row - lse) - onehot(label)) * scale; label < 0: none in this row.
template <class T>
void dlogits_row(T* row, int64_t n, int64_t label, float lse, float scale) {
  const Vec shift = splat(lse), factor = splat(scale);
  const float label_logit = label < 0 ? 0.0f : static_cast<float>(row[label]);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(row + i, exp(load(row + i) - shift) * factor);
  if (i < n) store_part(row + i, exp(load_part(row + i, n - i) - shift) * factor, n - i);
  if (label < 0) return;
  const Vec prob = exp(splat(label_logit) - shift);
  store_part(row + label, (prob - 1.0f) * factor, 1);
}

}  // namespace
}  // namespace weft::ops::cpu::WEFT_ISA
