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
        const auto id = static_cast<int64_t>(test::to_doubles(ids)[static_cast<size_t>(t)]);
        EXPECT_TRUE(test::same_bytes(y.rows(t, t + 1), table.rows(id, id + 1)));
      }
    }
}

void expect_backward(const Tensor& dy, const Tensor& ids, const Tensor& dtable, double tolerance) {
  std::vector<double> want = test::to_doubles(dtable);
  const std::vector<double> add = test::to_doubles(dy), rows = test::to_doubles(ids);
  const auto width = static_cast<size_t>(dy.dim(1));
  for (size_t t = 0; t < rows.size(); ++t)
    for (size_t i = 0; i < width; ++i)
      want[static_cast<size_t>(rows[t]) * width + i] += add[t * width + i];
  embedding_backward(dy, ids, dtable);
  test::expect_close(dtable, want, tolerance);
}

TEST_P(Embedding, BackwardAddsToTheRowsThatWereTaken) {
  for (DType grad_type : {DType::f32, dtype()})
    for (int64_t width : {1, 31, 257, 576, 1100})
      for (int64_t tokens : {0, 1, 37})
        expect_backward(test::random_tensor({tokens, width}, dtype(), 2), some_ids(tokens),
                        test::random_tensor({kVocabulary, width}, grad_type, 3),
                        grad_type == DType::f32 ? 1e-6 : 4e-3);
}

// Runs of equal ids around 128 tokens (a GPU cuts them there), a very long one and rows taken once,
// all mixed.
Tensor ids_with_long_runs() {
  std::vector<double> ids;
  const auto times = [&](int count, double id) {
    ids.insert(ids.end(), static_cast<size_t>(count), id);
  };
  times(1500, 3), times(127, 4), times(128, 5), times(129, 6), times(257, 7), times(256, 899);
  for (int id = 100; id < 700; ++id) ids.push_back(id);
  std::vector<double> mixed(ids.size());
  for (size_t t = 0; t < ids.size(); ++t) mixed[t * 7919 % ids.size()] = ids[t];
  return ids_of(mixed);
}

TEST_P(Embedding, BackwardAddsTokensThatComeThousandsOfTimes) {
  const Tensor ids = ids_with_long_runs();
  for (DType grad_type : {DType::f32, dtype()})
    for (int64_t width : {1, 33, 320})
      expect_backward(test::random_tensor({ids.dim(0), width}, dtype(), 2), ids,
                      test::random_tensor({900, width}, grad_type, 3),
                      grad_type == DType::f32 ? 1e-5 : 4e-3);
}

TEST_P(Embedding, BackwardOfLongRunsGivesTheSameBitsEverywhere) {
  const Tensor ids = ids_with_long_runs();
  const Tensor dy = test::random_tensor({ids.dim(0), 40}, dtype(), 4);
  test::expect_same_bits_everywhere([&] {
    const Tensor dtable = test::random_tensor({900, 40}, DType::f32, 5);
    embedding_backward(dy, ids, dtable);
    return std::vector<Tensor>{dtable};
  });
}

TEST_P(Embedding, TakesViewsThatBeginAnywhere) {
  const Shape shape{37, 64};
  const Tensor dy = test::random_tensor({shape.numel() + 1}, dtype(), 2).flat(1, shape);
  expect_backward(dy, some_ids(37), test::random_tensor({kVocabulary, 64}, DType::f32, 3), 1e-6);
  const Tensor y = embedding(dy, some_ids(5));
  const std::vector<double> rows = test::to_doubles(some_ids(5));
  for (int64_t t = 0; t < 5; ++t) {
    const auto row = static_cast<int64_t>(rows[static_cast<size_t>(t)]);
    EXPECT_TRUE(test::same_bytes(y.rows(t, t + 1), dy.rows(row, row + 1)));
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
  const Tensor dtable = Tensor::zeros({2, 1}, dtype(), device());
  embedding_backward(dy, ids_of(std::vector<double>(1000, 1.0)), dtable);
  EXPECT_EQ(test::to_doubles(dtable), (std::vector<double>{0, 1000}));
}

TEST_P(Embedding, RefusesAnIdOutsideOfTheTable) {
  if (!device().is_cpu()) GTEST_SKIP() << "a GPU stops for good: its callers check ids";
  const Tensor table = test::random_tensor({kVocabulary, 4}, dtype(), 1);
  EXPECT_THROW(embedding(table, ids_of({0, kVocabulary})), Error);
  EXPECT_THROW(embedding(table, ids_of({-1})), Error);
}

INSTANTIATE_OP_TESTS(Embedding);

}  // namespace
}  // namespace weft::ops
