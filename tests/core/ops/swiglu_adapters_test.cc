#include "core/ops/swiglu_adapters.h"

#include "core/ops/matmul.h"
#include "core/ops/swiglu.h"
#include "core/tensor/device_graph.h"
#include "tests/support/gradient_check.h"
#include "tests/support/op_cases.h"

namespace weft::ops {
namespace {

Tensor in_f32(const Tensor& t) {
  return test::from_doubles(test::to_doubles(t), t.shape(), DType::f32);
}

// Ranks of gate's and up's adapters in front and of the one behind; 0: there is none.
struct Ranks {
  int64_t gate, up, behind;
};

struct Problem {
  Tensor gate_up, dy, h, dh_behind, da;
  std::vector<AdapterSegment> segments;

  Problem(int64_t tokens, int64_t width, Ranks ranks, DType dtype, DType grad_dtype)
      : gate_up(test::random_tensor({tokens, 2 * width}, dtype, 1, 4.0)),
        dy(test::random_tensor({tokens, width}, dtype, 2)),
        h(test::random_tensor({tokens, ranks.gate + ranks.up}, dtype, 3)) {
    add(0, 0, {width, ranks.gate}, dtype, grad_dtype);
    add(width, ranks.gate, {width, ranks.up}, dtype, grad_dtype);
    if (ranks.behind == 0) return;
    dh_behind = test::random_tensor({tokens, ranks.behind}, dtype, 4);
    da = test::random_tensor({ranks.behind, width}, grad_dtype, 5);
  }

  void add(int64_t column, int64_t rank, const Shape& shape, DType dtype, DType grad_dtype) {
    const auto seed = static_cast<uint32_t>(10 + segments.size());
    if (shape[1] > 0)
      segments.push_back({.column = column,
                          .rank = rank,
                          .b_NR = test::random_tensor(shape, dtype, seed),
                          .db_NR = test::random_tensor(shape, grad_dtype, seed + 10),
                          .dh_scale = 0.5f + static_cast<float>(segments.size()),
                          .db_scale = 2.0f - static_cast<float>(segments.size())});
  }
  // With gradients and gate_up of its own.
  Problem copy() const {
    Problem p = *this;
    p.gate_up = gate_up.clone();
    if (da.defined()) p.da = da.clone();
    for (AdapterSegment& s : p.segments) s.db_NR = s.db_NR.clone();
    return p;
  }
  Tensor run() const {
    return swiglu_adapters_backward({.dy_TF = dy,
                                     .gate_up_T2F = gate_up,
                                     .dh_behind_TR = dh_behind,
                                     .da_RF = da,
                                     .h_TR = h,
                                     .segments = segments});
  }
};

double tolerance_of(DType dtype) {
  return dtype == DType::f32 ? 4e-5 : dtype == DType::bf16 ? 1e-2 : 1.4e-3;
}

// The products of what is stored in the case's dtype, in f32.
void expect_parts(const Problem& problem, const std::string& what) {
  const Problem p = problem.copy();
  const Tensor y = in_f32(swiglu(problem.gate_up));
  const Tensor dgate_up = swiglu_backward(problem.dy, problem.gate_up.clone());
  const Tensor dh = p.run();
  test::expect_close(p.gate_up, test::to_doubles(dgate_up), tolerance_of(p.dy.dtype()) / 2,
                     what + ": dgate_up");
  if (p.da.defined()) {
    const Tensor da = in_f32(problem.da);
    matmul(transposed(in_f32(p.dh_behind)), y, da, {.accumulate = true});
    test::expect_close(p.da, test::to_doubles(da), tolerance_of(p.da.dtype()), what + ": da");
  }
  ASSERT_EQ(dh.defined(), !p.segments.empty());
  const Tensor d = in_f32(p.gate_up), h = in_f32(p.h),
               want_dh = Tensor::zeros(p.h.shape(), DType::f32, p.h.device());
  for (size_t i = 0; i < p.segments.size(); ++i) {
    const AdapterSegment& s = p.segments[i];
    const Matrix part = columns(d, s.column, s.column + s.columns());
    const Tensor db = in_f32(problem.segments[i].db_NR);
    matmul(part.transposed(), columns(h, s.rank, s.rank + s.ranks()), db,
           {.alpha = s.db_scale, .accumulate = true});
    matmul(part, in_f32(s.b_NR), columns(want_dh, s.rank, s.rank + s.ranks()),
           {.alpha = s.dh_scale});
    test::expect_close(s.db_NR, test::to_doubles(db), tolerance_of(s.db_NR.dtype()),
                       what + fmt::format(": db {}", i));
  }
  if (dh.defined())
    test::expect_close(dh, test::to_doubles(want_dh), tolerance_of(dh.dtype()), what + ": dh");
}

class SwigluAdapters : public test::OpTest {};

TEST_P(SwigluAdapters, BackwardIsItsPartsForRaggedTokensAndColumns) {
  for (int64_t tokens : {0, 1, 37, 128, 300})
    for (int64_t width : {8, 136, 392})
      expect_parts(Problem(tokens, width, {16, 16, 16}, dtype(), DType::f32),
                   fmt::format("[{} x {}]", tokens, width));
}

TEST_P(SwigluAdapters, BackwardTakesAnyOfTheAdapters) {
  for (const Ranks& ranks : {Ranks{16, 0, 0}, Ranks{0, 16, 8}, Ranks{0, 0, 16}, Ranks{8, 32, 0},
                             Ranks{24, 16, 32}, Ranks{0, 0, 0}})
    expect_parts(Problem(150, 264, ranks, dtype(), dtype()),
                 fmt::format("R {} {} {}", ranks.gate, ranks.up, ranks.behind));
}

TEST_P(SwigluAdapters, BackwardWorksOnWhatTheOnePassDoesNotTake) {
  expect_parts(Problem(70, 37, {16, 16, 16}, dtype(), DType::f32), "37 columns");
  expect_parts(Problem(70, 64, {3, 5, 6}, dtype(), DType::f32), "ranks 3, 5 and 6");
  expect_parts(Problem(70, 64, {16, 64, 16}, dtype(), DType::f32), "rank 64");
  Problem shifted(70, 64, {16, 16, 16}, dtype(), DType::f32);
  shifted.dy = test::random_tensor({70 * 64 + 1}, dtype(), 2).flat(1, {70, 64});
  expect_parts(shifted, "dy at an odd address");
}

TEST_P(SwigluAdapters, BackwardSumsOverManySlabs) {
  expect_parts(Problem(3100, 648, {16, 16, 16}, dtype(), DType::f32), "R 16");
  expect_parts(Problem(1160, 520, {32, 32, 32}, dtype(), DType::f32), "R 32");
}

TEST_P(SwigluAdapters, BackwardGivesTheSameBitsTwice) {
  const Problem problem(1500, 392, {16, 16, 16}, dtype(), dtype());
  const Problem first = problem.copy();
  const Tensor want = first.run();
  for (int repeat = 0; repeat < 3; ++repeat) {
    const Problem p = problem.copy();
    EXPECT_TRUE(test::same_bytes(p.run(), want));
    EXPECT_TRUE(test::same_bytes(p.gate_up, first.gate_up));
    EXPECT_TRUE(test::same_bytes(p.da, first.da));
    for (size_t i = 0; i < p.segments.size(); ++i)
      EXPECT_TRUE(test::same_bytes(p.segments[i].db_NR, first.segments[i].db_NR)) << i;
  }
}

TEST_P(SwigluAdapters, CanBeRecordedAndReplayed) {
  if (device().is_cpu()) GTEST_SKIP() << "recordings are of GPUs";
  const Problem problem(300, 264, {16, 16, 16}, dtype(), DType::f32), first = problem.copy();
  const Tensor want = first.run();
  const Problem p = problem.copy();
  Tensor dh;
  const DeviceGraph graph = DeviceGraph::record(device(), [&] { dh = p.run(); });
  p.gate_up.copy_from(problem.gate_up);
  p.da.copy_from(problem.da);
  for (size_t i = 0; i < p.segments.size(); ++i)
    p.segments[i].db_NR.copy_from(problem.segments[i].db_NR);
  graph.replay();
  EXPECT_TRUE(test::same_bytes(dh, want));
  EXPECT_TRUE(test::same_bytes(p.da, first.da));
}

void expect_hidden(int64_t tokens, int64_t width, int64_t ranks, DType dtype) {
  const std::string what = fmt::format("[{} x {}], R {}", tokens, width, ranks);
  const Tensor gate_up = test::random_tensor({tokens, 2 * width}, dtype, 1, 4.0);
  const Tensor a = test::random_tensor({ranks, width}, dtype, 2);
  const SwigluHidden got = swiglu_hidden(gate_up, a, 0.75f);
  test::expect_close(got.y_TF, test::to_doubles(swiglu(gate_up)), tolerance_of(dtype) / 2,
                     what + ": y");
  const Tensor h = Tensor::empty({tokens, ranks}, DType::f32, gate_up.device());
  matmul(in_f32(got.y_TF), transposed(in_f32(a)), h, {.alpha = 0.75f});
  test::expect_close(got.h_TR, test::to_doubles(h), tolerance_of(dtype), what + ": h");
}

TEST_P(SwigluAdapters, HiddenIsTheProductOfYForRaggedTokensAndColumns) {
  for (int64_t tokens : {0, 1, 37, 128, 133, 300})
    for (int64_t width : {8, 37, 136, 392})
      for (int64_t ranks : {5, 8, 16, 24, 32, 64}) expect_hidden(tokens, width, ranks, dtype());
}

TEST_P(SwigluAdapters, HiddenSumsOverManySlabs) {
  expect_hidden(1300, 2056, 16, dtype());
}

TEST_P(SwigluAdapters, HiddenGivesTheSameBitsTwice) {
  const Tensor gate_up = test::random_tensor({700, 2 * 520}, dtype(), 1, 4.0);
  const Tensor a = test::random_tensor({16, 520}, dtype(), 2);
  const SwigluHidden want = swiglu_hidden(gate_up, a, 2);
  for (int repeat = 0; repeat < 3; ++repeat) {
    const SwigluHidden got = swiglu_hidden(gate_up, a, 2);
    EXPECT_TRUE(test::same_bytes(got.y_TF, want.y_TF));
    EXPECT_TRUE(test::same_bytes(got.h_TR, want.h_TR));
  }
}

INSTANTIATE_OP_TESTS(SwigluAdapters);

// loss = sum of dy y + sum of dh (y A^T), y = swiglu(gate_up): the gradients of A, and of a B in
// front whose product makes gate_up.
TEST(SwigluAdaptersGradient, AgreesWithFiniteDifferences) {
  const int64_t tokens = 5, width = 6, ranks = 3;
  const Tensor base = test::random_tensor({tokens, 2 * width}, DType::f32, 1, 2.0);
  const Tensor h = test::random_tensor({tokens, ranks}, DType::f32, 2);
  const Tensor b = test::random_tensor({width, ranks}, DType::f32, 3);
  const Tensor a = test::random_tensor({ranks, width}, DType::f32, 4);
  const Tensor dh = test::random_tensor({tokens, ranks}, DType::f32, 5);
  const auto gate_up = [&] {
    const Tensor sum = base.clone();
    matmul(h, transposed(b), columns(sum, width, 2 * width), {.accumulate = true});
    return sum;
  };
  const auto loss = [&] {
    const Tensor hidden = swiglu_hidden(gate_up(), a, 1).h_TR;
    return test::weighted_sum(hidden, dh);
  };
  const Tensor dy = Tensor::zeros({tokens, width}, DType::f32, {});
  matmul(dh, a, dy);
  const Tensor da = Tensor::zeros(a.shape(), DType::f32, {}),
               db = Tensor::zeros(b.shape(), DType::f32, {});
  const Tensor dh_front = swiglu_adapters_backward(
      {.dy_TF = dy,
       .gate_up_T2F = gate_up(),
       .dh_behind_TR = dh,
       .da_RF = da,
       .h_TR = h,
       .segments = {{.column = width, .rank = 0, .b_NR = b, .db_NR = db}}});
  test::expect_gradient(a, da, loss, "da");
  test::expect_gradient(b, db, loss, "db");
  test::expect_gradient(h, dh_front, loss, "dh");
}

}  // namespace
}  // namespace weft::ops
