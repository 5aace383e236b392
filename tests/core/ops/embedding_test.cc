#include "core/ops/embedding.h"

#include "tests/support/op_cases.h"

namespace weft::ops {
namespace {

constexpr int64_t kVocabulary = 11;

Tensor ids_of(const std::vector<double>& ids) {
  return test::from_doubles(ids, {static_cast<int64_t>(ids.size())}, DType::i32);
}

// Many repeats, out of order, some ids never.
Tensor some_ids(int64_t num_tokens) {
  std::vector<double> ids(static_cast<size_t>(num_tokens));
  for (size_t t = 0; t < ids.size(); ++t) ids[t] = static_cast<double>(t * t * 7 % 10);
  return ids_of(ids);
}

class Embedding : public test::OpTest {};

TEST_P(Embedding, CopiesRows) {
  for (int64_t width : {1, 31, 33, 257, 576})
    for (int64_t tokens : {0, 1, 37}) {
      const Tensor table = test::random_tensor({kVocabulary, width}, dtype(), 1);
      const Tensor ids = some_ids(tokens);
      const Tensor y = embedding(table, ids);
      ASSERT_EQ(y.shape(), (Shape{tokens, width}));
      for (int64_t t = 0; t < tokens; ++t) {
        const int32_t id = ids.data<int32_t>()[t];
        EXPECT_TRUE(test::same_bytes(y.rows(t, t + 1), table.rows(id, id + 1)));
      }
    }
}

TEST_P(Embedding, BackwardAddsToTheRowsThatWereTaken) {
  for (DType grad_type : {DType::f32, dtype()})
    for (int64_t width : {1, 31, 257, 576, 1100})
      for (int64_t tokens : {0, 1, 37}) {
        const Tensor dy = test::random_tensor({tokens, width}, dtype(), 2);
        const Tensor dtable = test::random_tensor({kVocabulary, width}, grad_type, 3);
        const Tensor ids = some_ids(tokens);
        std::vector<double> want = test::to_doubles(dtable);
        const std::vector<double> add = test::to_doubles(dy);
        for (int64_t t = 0; t < tokens; ++t)
          for (int64_t i = 0; i < width; ++i)
            want[static_cast<size_t>(ids.data<int32_t>()[t] * width + i)] +=
                add[static_cast<size_t>(t * width + i)];
        embedding_backward(dy, ids, dtable);
        test::expect_close(dtable, want, grad_type == DType::f32 ? 1e-6 : 4e-3);
      }
}

TEST_P(Embedding, BackwardGivesTheSameBitsEverywhere) {
  const Tensor dy = test::random_tensor({300, 577}, dtype(), 4);
  test::expect_same_bits_everywhere([&] {
    const Tensor dtable = test::random_tensor({kVocabulary, 577}, DType::f32, 5);
    embedding_backward(dy, some_ids(300), dtable);
    return std::vector<Tensor>{dtable};
  });
}

TEST_P(Embedding, BackwardRoundsARowOnceHoweverManyTokensItHas) {
  const Tensor dy = test::from_doubles(std::vector<double>(1000, 1.0), {1000, 1}, dtype());
  const Tensor dtable = Tensor::zeros({2, 1}, dtype());
  embedding_backward(dy, ids_of(std::vector<double>(1000, 1.0)), dtable);
  EXPECT_EQ(test::to_doubles(dtable), (std::vector<double>{0, 1000}));
}

TEST_P(Embedding, RefusesAnIdOutsideOfTheTable) {
  const Tensor table = test::random_tensor({kVocabulary, 4}, dtype(), 1);
  EXPECT_THROW(embedding(table, ids_of({0, kVocabulary})), Error);
  EXPECT_THROW(embedding(table, ids_of({-1})), Error);
}

INSTANTIATE_OP_TESTS(Embedding);

}  // namespace
}  // namespace weft::ops
