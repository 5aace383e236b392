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

// The sum in f32, rounded once.
Tensor with_front(const Tensor& gate_up, const Tensor& h,
                  const std::vector<AdapterSegment>& segments) {
  const Tensor whole = in_f32(gate_up), h32 = in_f32(h);
  for (const AdapterSegment& s : segments)
    matmul(columns(h32, s.rank, s.rank + s.ranks()), transposed(in_f32(s.b_NR)),
           columns(whole, s.column, s.column + s.columns()),
           {.alpha = s.db_scale, .accumulate = true});
  return test::from_doubles(test::to_doubles(whole), whole.shape(), gate_up.dtype());
}

// Ranks of gate's and up's adapters in front and of the one behind; 0: there is none.
struct Ranks {
  int64_t gate, up, behind;
};

struct Problem {
  Tensor gate_up, dy, h, dh_behind, da;
  std::vector<AdapterSegment> segments;
  bool adds_front = false;

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
  // gate_up lacks the adapters' part, which has no factor.
  Problem& lacking_front() {
    adds_front = true;
    for (AdapterSegment& s : segments) s.db_scale = 1;
    return *this;
  }
  Tensor whole_gate_up() const {
    return adds_front ? with_front(gate_up, h, segments) : gate_up.clone();
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
                                     .segments = segments,
                                     .adds_front = adds_front});
  }
};

double tolerance_of(DType dtype) {
  return dtype == DType::f32 ? 4e-5 : dtype == DType::bf16 ? 1e-2 : 1.4e-3;
}

// Of what SwiGLU makes of sums whose rounding is open.
double tolerance_of_sums(DType dtype) {
  return 2 * tolerance_of(dtype);
}

// The products of what is stored in the case's dtype, in f32.
void expect_parts(const Problem& problem, const std::string& what) {
  const Problem p = problem.copy();
  const Tensor y = in_f32(swiglu(problem.whole_gate_up()));
  const Tensor dgate_up = swiglu_backward(problem.dy, problem.whole_gate_up());
  const Tensor dh = p.run();
  const double of_sums = p.adds_front ? tolerance_of_sums(p.dy.dtype()) : 0;
  test::expect_close(p.gate_up, test::to_doubles(dgate_up),
                     std::max(tolerance_of(p.dy.dtype()) / 2, of_sums), what + ": dgate_up");
  if (p.da.defined()) {
    const Tensor da = in_f32(problem.da);
    matmul(transposed(in_f32(p.dh_behind)), y, da, {.accumulate = true});
    test::expect_close(p.da, test::to_doubles(da), std::max(tolerance_of(p.da.dtype()), of_sums),
                       what + ": da");
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

// A block of a GPU then has several tiles of columns, and of tokens more than its ring has stages.
TEST_P(SwigluAdapters, BackwardGoesOnToFurtherTiles) {
  if (device().is_cpu()) GTEST_SKIP() << "tiles are of GPUs";
  expect_parts(Problem(2350, 3848, {16, 16, 16}, dtype(), DType::f32).lacking_front(), "R 16");
  expect_parts(Problem(150, 16904, {32, 32, 32}, dtype(), DType::f32).lacking_front(), "R 32");
  expect_parts(Problem(150, 16904, {32, 32, 32}, dtype(), DType::f32), "R 32, whole");
}

TEST_P(SwigluAdapters, BackwardAddsThePartOfTheAdaptersInFront) {
  for (int64_t tokens : {1, 37, 300})
    for (int64_t width : {8, 37, 392})
      expect_parts(Problem(tokens, width, {16, 16, 16}, dtype(), DType::f32).lacking_front(),
                   fmt::format("[{} x {}]", tokens, width));
  for (const Ranks& ranks :
       {Ranks{16, 0, 0}, Ranks{0, 16, 8}, Ranks{8, 32, 0}, Ranks{24, 16, 32}, Ranks{16, 64, 16}})
    expect_parts(Problem(150, 264, ranks, dtype(), dtype()).lacking_front(),
                 fmt::format("R {} {} {}", ranks.gate, ranks.up, ranks.behind));
}

TEST_P(SwigluAdapters, BackwardGivesTheSameBitsTwice) {
  const Problem problem = Problem(1500, 392, {16, 16, 16}, dtype(), dtype()).lacking_front();
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
  const Problem problem = Problem(300, 264, {16, 16, 16}, dtype(), DType::f32).lacking_front();
  const Problem first = problem.copy();
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
  EXPECT_TRUE(test::same_bytes(p.gate_up, first.gate_up));
  for (size_t i = 0; i < p.segments.size(); ++i)
    EXPECT_TRUE(test::same_bytes(p.segments[i].db_NR, first.segments[i].db_NR)) << i;
}

struct HiddenProblem {
  Tensor gate_up, a;
  SwigluFront front;

  HiddenProblem(int64_t tokens, int64_t width, Ranks ranks, DType dtype)
      : gate_up(test::random_tensor({tokens, 2 * width}, dtype, 1, 4.0)),
        a(test::random_tensor({ranks.behind, width}, dtype, 2)) {
    const Problem p(tokens, width, {ranks.gate, ranks.up, 0}, dtype, dtype);
    front.h_TR = p.h;
    for (AdapterSegment s : p.segments) {
      s.db_NR = {};  // as where nothing trains
      s.db_scale = 1;
      front.segments.push_back(s);
    }
  }
};

void expect_hidden(const HiddenProblem& p, const std::string& what) {
  const DType dtype = p.a.dtype();
  const Tensor before = p.gate_up.clone();
  const SwigluHidden got = swiglu_hidden(p.gate_up, p.a, 0.75f, p.front);
  EXPECT_TRUE(test::same_bytes(p.gate_up, before)) << what;
  const Tensor whole = with_front(p.gate_up, p.front.h_TR, p.front.segments);
  test::expect_close(got.y_TF, test::to_doubles(swiglu(whole)),
                     p.front.segments.empty() ? tolerance_of(dtype) / 2 : tolerance_of_sums(dtype),
                     what + ": y");
  const Tensor h = Tensor::empty({p.gate_up.dim(0), p.a.dim(0)}, DType::f32, p.gate_up.device());
  matmul(in_f32(got.y_TF), transposed(in_f32(p.a)), h, {.alpha = 0.75f});
  test::expect_close(got.h_TR, test::to_doubles(h), tolerance_of(dtype), what + ": h");
}

void expect_hidden(int64_t tokens, int64_t width, int64_t ranks, DType dtype) {
  expect_hidden(HiddenProblem(tokens, width, {0, 0, ranks}, dtype),
                fmt::format("[{} x {}], R {}", tokens, width, ranks));
}

TEST_P(SwigluAdapters, HiddenIsTheProductOfYForRaggedTokensAndColumns) {
  for (int64_t tokens : {0, 1, 37, 128, 133, 300})
    for (int64_t width : {8, 37, 136, 392})
      for (int64_t ranks : {5, 8, 16, 24, 32, 64}) expect_hidden(tokens, width, ranks, dtype());
}

TEST_P(SwigluAdapters, HiddenSumsOverManySlabs) {
  expect_hidden(1300, 2056, 16, dtype());
}

TEST_P(SwigluAdapters, HiddenGoesRoundTheRingOfTiles) {
  if (device().is_cpu()) GTEST_SKIP() << "tiles are of GPUs";
  expect_hidden(HiddenProblem(4226, 904, {16, 16, 16}, dtype()), "R 16");
  expect_hidden(HiddenProblem(4226, 904, {32, 32, 32}, dtype()), "R 32");
}

TEST_P(SwigluAdapters, HiddenAddsThePartOfTheAdaptersInFront) {
  for (int64_t tokens : {0, 1, 133, 300})
    for (int64_t width : {8, 37, 392})
      expect_hidden(HiddenProblem(tokens, width, {16, 16, 16}, dtype()),
                    fmt::format("[{} x {}]", tokens, width));
  for (const Ranks& ranks : {Ranks{16, 0, 16}, Ranks{0, 16, 8}, Ranks{8, 32, 16}, Ranks{24, 16, 32},
                             Ranks{16, 64, 16}, Ranks{16, 5, 16}})
    expect_hidden(HiddenProblem(200, 264, ranks, dtype()),
                  fmt::format("R {} {} {}", ranks.gate, ranks.up, ranks.behind));
}

TEST_P(SwigluAdapters, HiddenGivesTheSameBitsTwice) {
  const HiddenProblem p(700, 520, {16, 16, 16}, dtype());
  const SwigluHidden want = swiglu_hidden(p.gate_up, p.a, 2, p.front);
  for (int repeat = 0; repeat < 3; ++repeat) {
    const SwigluHidden got = swiglu_hidden(p.gate_up, p.a, 2, p.front);
    EXPECT_TRUE(test::same_bytes(got.y_TF, want.y_TF));
    EXPECT_TRUE(test::same_bytes(got.h_TR, want.h_TR));
  }
}

// The rule of the ops for what nn::Mlp asks.
TEST_P(SwigluAdapters, AddsTheFrontWhereAGpuHasRoomForThePasses) {
  const auto adds = [&](int64_t tokens, Ranks ranks, float scale) {
    HiddenProblem p(1, 64, ranks, dtype());
    for (AdapterSegment& s : p.front.segments) s.db_scale = scale;
    return swiglu_adds_front(tokens, p.a, p.front.segments);
  };
  EXPECT_FALSE(adds(127, {16, 16, 16}, 1));
  EXPECT_FALSE(adds(128, {16, 16, 16}, 0.5f));
  EXPECT_FALSE(adds(128, {16, 12, 16}, 1));
  EXPECT_FALSE(adds(128, {16, 40, 16}, 1));
  const bool of_a_gpu = !device().is_cpu() && dtype() != DType::f32;
  if (of_a_gpu && !adds(128, {16, 16, 16}, 1))
    GTEST_SKIP() << "blocks of this GPU have too little shared memory";
  EXPECT_EQ(adds(128, {16, 16, 16}, 1), of_a_gpu);
  EXPECT_EQ(adds(5000, {0, 32, 8}, 1), of_a_gpu);
}

INSTANTIATE_OP_TESTS(SwigluAdapters);

// loss = sum of dh (y A^T), y = swiglu(gate_up): the gradients of A, and of a B in front, whose
// part is in gate_up or is left to the ops.
void expect_slopes(bool adds_front) {
  const int64_t tokens = 5, width = 6, ranks = 3;
  const Tensor base = test::random_tensor({tokens, 2 * width}, DType::f32, 1, 2.0);
  const Tensor h = test::random_tensor({tokens, ranks}, DType::f32, 2);
  const Tensor b = test::random_tensor({width, ranks}, DType::f32, 3);
  const Tensor a = test::random_tensor({ranks, width}, DType::f32, 4);
  const Tensor dh = test::random_tensor({tokens, ranks}, DType::f32, 5);
  const Tensor da = Tensor::zeros(a.shape(), DType::f32, {}),
               db = Tensor::zeros(b.shape(), DType::f32, {});
  const std::vector<AdapterSegment> segments = {
      {.column = width, .rank = 0, .b_NR = b, .db_NR = db}};
  const auto gate_up = [&] {
    const Tensor sum = base.clone();
    if (!adds_front) matmul(h, transposed(b), columns(sum, width, 2 * width), {.accumulate = true});
    return sum;
  };
  const auto loss = [&] {
    const SwigluFront front = adds_front ? SwigluFront{h, segments} : SwigluFront{};
    return test::weighted_sum(swiglu_hidden(gate_up(), a, 1, front).h_TR, dh);
  };
  const Tensor dy = Tensor::zeros({tokens, width}, DType::f32, {});
  matmul(dh, a, dy);
  const Tensor dh_front = swiglu_adapters_backward({.dy_TF = dy,
                                                    .gate_up_T2F = gate_up(),
                                                    .dh_behind_TR = dh,
                                                    .da_RF = da,
                                                    .h_TR = h,
                                                    .segments = segments,
                                                    .adds_front = adds_front});
  test::expect_gradient(a, da, loss, "da");
  test::expect_gradient(b, db, loss, "db");
  test::expect_gradient(h, dh_front, loss, "dh");
}

TEST(SwigluAdaptersGradient, AgreesWithFiniteDifferences) {
  expect_slopes(false);
  expect_slopes(true);
}

}  // namespace
}  // namespace weft::ops
