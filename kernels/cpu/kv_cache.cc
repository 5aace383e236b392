#include "core/ops/kv_cache.h"

#include <cstring>

#include "core/ops/rope.h"

namespace weft::ops::cpu {

void rope_store(const RopeStoreArgs& args) {
  if (args.table.defined())
    rope({.x = args.qkv, .table = args.table, .num_heads = args.num_heads + args.num_kv_heads});
  const size_t element = size_of(args.qkv.dtype()), width = args.keys.dim(1) * element;
  const size_t k_begin = args.num_heads * (width / args.num_kv_heads);
  const char* token = static_cast<const char*>(args.qkv.raw());
  for (int64_t t = 0; t < args.qkv.dim(0); ++t, token += k_begin + 2 * width) {
    const int64_t row = args.rows_T.data<int32_t>()[t];
    CHECK(0 <= row && row < args.keys.dim(0), "[rope_store] row {} of {}", row, args.keys.dim(0));
    std::memcpy(static_cast<char*>(args.keys.raw()) + row * width, token + k_begin, width);
    std::memcpy(static_cast<char*>(args.values.raw()) + row * width, token + k_begin + width,
                width);
  }
}

void advance(const CachePlaces& places) {
  for (int64_t b = 0; b < places.rows.dim(0); ++b) {
    int32_t& row = places.rows.data<int32_t>()[b];
    if (row >= places.last_rows.data<int32_t>()[b]) continue;
    ++row;
    ++places.positions.data<int32_t>()[b];
  }
}

}  // namespace weft::ops::cpu
