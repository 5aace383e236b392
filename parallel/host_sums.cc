#include "parallel/host_sums.h"

#include <algorithm>

namespace weft::parallel {
namespace {

constexpr int64_t kTile = 1024;  // elements whose sums stay in the first cache

template <class Sum>
Sum larger(Sum a, Sum b) {
  return b != b || b > a ? b : a;  // NaN wins
}

template <class T, class Sum>
void reduce_tile(Reduce reduce, const std::vector<const void*>& parts, T* out, int64_t begin,
                 int64_t count) {
  Sum total[kTile];
  const T* first = static_cast<const T*>(parts[0]) + begin;
  for (int64_t i = 0; i < count; ++i) total[i] = static_cast<Sum>(first[i]);
  for (size_t p = 1; p < parts.size(); ++p) {
    const T* part = static_cast<const T*>(parts[p]) + begin;
    if (reduce == Reduce::sum)
      for (int64_t i = 0; i < count; ++i) total[i] += static_cast<Sum>(part[i]);
    else
      for (int64_t i = 0; i < count; ++i) total[i] = larger(total[i], static_cast<Sum>(part[i]));
  }
  for (int64_t i = 0; i < count; ++i) out[begin + i] = T(total[i]);
}

template <class T, class Sum>
void reduce_all(Reduce reduce, const std::vector<const void*>& parts, void* out, int64_t count) {
  for (int64_t begin = 0; begin < count; begin += kTile)
    reduce_tile<T, Sum>(reduce, parts, static_cast<T*>(out), begin, std::min(kTile, count - begin));
}

}  // namespace

void reduce_in_order(DType dtype, Reduce reduce, const std::vector<const void*>& parts, void* out,
                     int64_t count) {
  switch (dtype) {
    case DType::f32:
      return reduce_all<float, float>(reduce, parts, out, count);
    case DType::bf16:
      return reduce_all<bf16, float>(reduce, parts, out, count);
    case DType::f16:
      return reduce_all<f16, float>(reduce, parts, out, count);
    case DType::f64:
      return reduce_all<double, double>(reduce, parts, out, count);
    case DType::i32:
      return reduce_all<int32_t, int64_t>(reduce, parts, out, count);
    case DType::i64:
      return reduce_all<int64_t, int64_t>(reduce, parts, out, count);
    default:
      CHECK(false, "[reduce] no sums of {}", name_of(dtype));
  }
}

}  // namespace weft::parallel
