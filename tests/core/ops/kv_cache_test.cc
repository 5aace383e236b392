#include "core/ops/kv_cache.h"

#include "core/ops/matrix.h"
#include "core/ops/rope.h"
#include "tests/support/op_cases.h"

namespace weft::ops {
namespace {

class KvCacheOps : public test::OpTest {
 protected:
  static Tensor i32(const std::vector<double>& values) {
    return test::from_doubles(values, {static_cast<int64_t>(values.size())}, DType::i32);
  }
};

// Columns [begin, end) of a row.
std::vector<double> part(const Tensor& t, int64_t row, int64_t begin, int64_t end) {
  const std::vector<double> all = test::to_doubles(t.rows(row, row + 1));
  return {all.begin() + begin, all.begin() + end};
}

TEST_P(KvCacheOps, QueriesTurnInPlaceKeysAndValuesGoToTheirRows) {
  for (int64_t head_dim : {2, 6, 16, 64, 66}) {
    const int64_t heads = 3, kv_heads = 2, kv = kv_heads * head_dim;
    const Tensor rows = i32({4, 0, 7, 2});
    const Tensor positions = i32({40, 0, 3, 1});
    const Tensor inv_freq = test::random_tensor({head_dim / 2}, DType::f32, 5);
    const Tensor table = rope_table(positions, inv_freq);
    const Tensor qkv = test::random_tensor({4, heads * head_dim + 2 * kv}, dtype(), 1);
    const Tensor turned = qkv.clone();
    rope({.x = turned, .table = table, .num_heads = heads + kv_heads});
    const Tensor keys = test::random_tensor({9, kv}, dtype(), 2), k_before = keys.clone();
    const Tensor values = test::random_tensor({9, kv}, dtype(), 3), v_before = values.clone();
    rope_store({.qkv = qkv,
                .table = table,
                .rows_T = rows,
                .keys = keys,
                .values = values,
                .num_heads = heads,
                .num_kv_heads = kv_heads});
    const std::vector<double> at = test::to_doubles(rows);
    const int64_t k = heads * head_dim;
    for (int64_t t = 0; t < 4; ++t) {
      const int64_t row = static_cast<int64_t>(at[static_cast<size_t>(t)]);
      test::expect_close(part(qkv, t, 0, k), part(turned, t, 0, k), tolerance(), "q");
      test::expect_close(part(keys, row, 0, kv), part(turned, t, k, k + kv), tolerance(), "k");
      EXPECT_EQ(part(values, row, 0, kv), part(turned, t, k + kv, k + 2 * kv)) << "v";
    }
    for (int64_t row : {1, 3, 5, 6, 8}) {
      EXPECT_TRUE(test::same_bytes(keys.rows(row, row + 1), k_before.rows(row, row + 1)));
      EXPECT_TRUE(test::same_bytes(values.rows(row, row + 1), v_before.rows(row, row + 1)));
    }
  }
}

TEST_P(KvCacheOps, WithoutATableWhatIsTurnedAlreadyIsStored) {
  const int64_t heads = 3, kv_heads = 2, head_dim = 16, kv = kv_heads * head_dim, k = 3 * head_dim;
  const Tensor qkv = test::random_tensor({3, k + 2 * kv}, dtype(), 1), before = qkv.clone(), none;
  const Tensor keys = test::random_tensor({5, kv}, dtype(), 2);
  const Tensor values = test::random_tensor({5, kv}, dtype(), 3);
  const std::vector<double> at = {4, 0, 2};
  rope_store({.qkv = qkv,
              .table = none,
              .rows_T = i32(at),
              .keys = keys,
              .values = values,
              .num_heads = heads,
              .num_kv_heads = kv_heads});
  for (int64_t t = 0; t < 3; ++t) {
    const auto row = static_cast<int64_t>(at[static_cast<size_t>(t)]);
    EXPECT_EQ(part(qkv, t, 0, k), part(before, t, 0, k)) << "q";
    EXPECT_EQ(part(keys, row, 0, kv), part(before, t, k, k + kv)) << "k";
    EXPECT_EQ(part(values, row, 0, kv), part(before, t, k + kv, k + 2 * kv)) << "v";
  }
}

TEST_P(KvCacheOps, PlacesGoOnUntilTheirLastRow) {
  const CachePlaces places{.positions = i32({3, 0, 8}),
                           .rows = i32({13, 20, 38}),
                           .first_rows = i32({10, 20, 30}),
                           .last_rows = i32({19, 20, 39})};
  advance(places);
  advance(places);
  EXPECT_EQ(test::to_doubles(places.positions), (std::vector<double>{5, 0, 9}));
  EXPECT_EQ(test::to_doubles(places.rows), (std::vector<double>{15, 20, 39}));
}

INSTANTIATE_OP_TESTS(KvCacheOps);

}  // namespace
}  // namespace weft::ops
