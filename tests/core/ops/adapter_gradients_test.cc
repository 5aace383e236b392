#include "core/ops/adapter_gradients.h"

#include "core/ops/matmul.h"
#include "core/tensor/device_graph.h"
#include "tests/support/gradient_check.h"
#include "tests/support/op_cases.h"

namespace weft::ops {
namespace {

struct Member {
  int64_t columns;
  int64_t ranks;
};

// Members side by side, with `gap` columns of dy between them that belong to nobody.
struct Problem {
  Tensor dy, h;
  std::vector<AdapterSegment> segments;

  Problem(int64_t tokens, const std::vector<Member>& members, DType dtype, DType grad_dtype,
          int64_t gap = 0) {
    int64_t column = 0, rank = 0;
    uint32_t seed = 10;
    for (const Member& m : members) {
      const Shape shape{m.columns, m.ranks};
      segments.push_back({.column = column,
                          .rank = rank,
                          .b_NR = test::random_tensor(shape, dtype, ++seed),
                          .db_NR = test::random_tensor(shape, grad_dtype, ++seed),
                          .dh_scale = 0.5f + static_cast<float>(rank),
                          .db_scale = 2.0f - static_cast<float>(rank)});
      column += m.columns + gap;
      rank += m.ranks;
    }
    dy = test::random_tensor({tokens, column}, dtype, 1);
    h = test::random_tensor({tokens, rank}, dtype, 2);
  }

  // Puts the gradients of B back, so that the op can run again.
  std::vector<Tensor> gradients() const {
    std::vector<Tensor> kept;
    for (const AdapterSegment& s : segments) kept.push_back(s.db_NR.clone());
    return kept;
  }
  void set_gradients(const std::vector<Tensor>& kept) const {
    for (size_t i = 0; i < segments.size(); ++i) segments[i].db_NR.copy_from(kept[i]);
  }
};

Tensor in_f32(const Tensor& t) {
  return test::from_doubles(test::to_doubles(t), t.shape(), DType::f32);
}

// By two products a member, of f32 operands on the CPU or the GPU.
struct Reference {
  std::vector<double> dh;
  std::vector<std::vector<double>> dbs;

  explicit Reference(const Problem& p) {
    const Tensor dy = in_f32(p.dy), h = in_f32(p.h);
    const Tensor dh_TR = Tensor::zeros(h.shape(), DType::f32, h.device());
    for (const AdapterSegment& s : p.segments) {
      const Matrix part = columns(dy, s.column, s.column + s.columns());
      const Tensor db = in_f32(s.db_NR);
      matmul(part, in_f32(s.b_NR), columns(dh_TR, s.rank, s.rank + s.ranks()),
             {.alpha = s.dh_scale});
      matmul(part.transposed(), columns(h, s.rank, s.rank + s.ranks()), db,
             {.alpha = s.db_scale, .accumulate = true});
      dbs.push_back(test::to_doubles(db));
    }
    dh = test::to_doubles(dh_TR);
  }
};

// Where the products make the result, they may round before they add; tensor cores cut bits off as
// they add.
double tolerance_of(DType dtype) {
  return dtype == DType::f32 ? 2e-5 : dtype == DType::bf16 ? 1e-2 : 1.4e-3;
}

void expect_products(const Problem& p, const std::string& what) {
  const Reference want(p);
  const Tensor dh = adapter_gradients(p.dy, p.h, p.segments);
  EXPECT_EQ(dh.dtype(), p.dy.dtype());
  test::expect_close(dh, want.dh, tolerance_of(dh.dtype()), what + ": dh");
  for (size_t i = 0; i < p.segments.size(); ++i) {
    const Tensor& db = p.segments[i].db_NR;
    test::expect_close(db, want.dbs[i], tolerance_of(db.dtype()), what + fmt::format(": db {}", i));
  }
}

class AdapterGradients : public test::OpTest {};

TEST_P(AdapterGradients, AreTheTwoProductsForRaggedTokensAndColumns) {
  for (int64_t tokens : {0, 1, 37, 128, 700})
    for (int64_t columns : {8, 136, 576})
      for (int64_t ranks : {8, 16, 24, 64})
        expect_products(Problem(tokens, {{columns, ranks}}, dtype(), DType::f32),
                        fmt::format("[{} x {}], R {}", tokens, columns, ranks));
}

TEST_P(AdapterGradients, AccumulateInTheOperandsDtypeToo) {
  for (int64_t ranks : {8, 16, 40})
    expect_products(Problem(130, {{264, ranks}, {128, ranks}}, dtype(), dtype()),
                    fmt::format("R {}", ranks));
}

TEST_P(AdapterGradients, WorkOnSegmentsOfAWiderMatrix) {
  expect_products(Problem(200, {{576, 16}, {192, 16}, {192, 16}}, dtype(), DType::f32), "q, k, v");
  expect_products(Problem(200, {{136, 8}, {256, 32}, {8, 64}}, dtype(), DType::f32, 16), "ranks");
  expect_products(Problem(140, std::vector<Member>(9, {24, 8}), dtype(), DType::f32), "nine");
}

TEST_P(AdapterGradients, WorkOnWhatTheOnePassDoesNotTake) {
  expect_products(Problem(70, {{37, 16}}, dtype(), DType::f32), "37 columns");
  expect_products(Problem(70, {{64, 3}, {64, 5}}, dtype(), DType::f32), "ranks 3 and 5");
  expect_products(Problem(70, {{64, 128}}, dtype(), DType::f32), "rank 128");
  expect_products(Problem(70, {{64, 128}, {64, 16}}, dtype(), DType::f32), "one of two");
  expect_products(Problem(70, {{64, 16}, {64, 16}}, dtype(), DType::f32, 3), "columns at 67");
  Problem shifted(70, {{64, 16}}, dtype(), DType::f32);
  shifted.dy = test::random_tensor({70 * 64 + 1}, dtype(), 1).flat(1, {70, 64});
  expect_products(shifted, "dy at an odd address");
}

TEST_P(AdapterGradients, SumOverManySlabs) {
  expect_products(Problem(3100, {{1048, 16}, {264, 16}}, dtype(), DType::f32), "R 16");
  expect_products(Problem(1160, {{520, 32}}, dtype(), DType::f32), "R 32");
  expect_products(Problem(1160, {{520, 64}}, dtype(), DType::f32), "R 64");
}

TEST_P(AdapterGradients, NeverReadBehindTheMatrices) {
  // What lies behind dy's columns, and behind its last token, is not a number.
  const int64_t tokens = 130, width = 136, ranks = 8;
  const Problem p(tokens, {{width, ranks}}, dtype(), DType::f32);
  const std::vector<Tensor> before = p.gradients();
  const Tensor dh = adapter_gradients(p.dy, p.h, p.segments);
  const std::vector<Tensor> db = p.gradients();
  std::vector<double> wide(static_cast<size_t>((tokens + 1) * 2 * width), std::nan(""));
  const std::vector<double> dy = test::to_doubles(p.dy);
  for (int64_t t = 0; t < tokens; ++t)
    std::copy_n(dy.begin() + t * width, width, wide.begin() + t * 2 * width);
  Problem q = p;
  q.dy = test::from_doubles(wide, {tokens + 1, 2 * width}, dtype()).rows(0, tokens);
  q.set_gradients(before);
  test::expect_close(adapter_gradients(q.dy, q.h, q.segments), test::to_doubles(dh), tolerance());
  test::expect_close(q.segments[0].db_NR, test::to_doubles(db[0]), 2e-5);
}

TEST_P(AdapterGradients, GiveTheSameBitsTwice) {
  const Problem p(1500, {{1032, 16}, {264, 16}}, dtype(), dtype());
  const std::vector<Tensor> before = p.gradients();
  const Tensor want = adapter_gradients(p.dy, p.h, p.segments);
  const std::vector<Tensor> want_db = p.gradients();
  for (int repeat = 0; repeat < 3; ++repeat) {
    p.set_gradients(before);
    EXPECT_TRUE(test::same_bytes(adapter_gradients(p.dy, p.h, p.segments), want));
    for (size_t i = 0; i < want_db.size(); ++i)
      EXPECT_TRUE(test::same_bytes(p.segments[i].db_NR, want_db[i])) << i;
  }
}

TEST_P(AdapterGradients, CanBeRecordedAndReplayed) {
  if (device().is_cpu()) GTEST_SKIP() << "recordings are of GPUs";
  const Problem p(300, {{264, 16}, {128, 16}}, dtype(), DType::f32);
  const std::vector<Tensor> before = p.gradients();
  const Tensor want = adapter_gradients(p.dy, p.h, p.segments);
  const std::vector<Tensor> want_db = p.gradients();
  Tensor dh;
  const DeviceGraph graph =
      DeviceGraph::record(device(), [&] { dh = adapter_gradients(p.dy, p.h, p.segments); });
  p.set_gradients(before);
  graph.replay();
  EXPECT_TRUE(test::same_bytes(dh, want));
  for (size_t i = 0; i < want_db.size(); ++i)
    EXPECT_TRUE(test::same_bytes(p.segments[i].db_NR, want_db[i])) << i;
}

// loss = sum of dy * scale * h B^T, with h and B in f32.
TEST_P(AdapterGradients, AreTheSlopesOfTheForward) {
  if (dtype() != DType::f32) GTEST_SKIP() << "finite differences are for f32";
  const float scale = 0.75f;
  const Tensor h = test::random_tensor({9, 8}, dtype(), 1);
  const Tensor b = test::random_tensor({16, 8}, dtype(), 2);
  const Tensor dy = test::random_tensor({9, 16}, dtype(), 3);
  const Tensor db = Tensor::zeros(b.shape(), dtype(), device());
  const Tensor dh =
      adapter_gradients(dy, h, {{.b_NR = b, .db_NR = db, .dh_scale = scale, .db_scale = scale}});
  const auto loss = [&] {
    const Tensor y = Tensor::empty(dy.shape(), dtype(), device());
    matmul(h, transposed(b), y, {.alpha = scale});
    return test::weighted_sum(y, dy);
  };
  test::expect_gradient(h, dh, loss, "dh");
  test::expect_gradient(b, db, loss, "db");
}

INSTANTIATE_OP_TESTS(AdapterGradients);

}  // namespace
}  // namespace weft::ops
