#include "core/ops/adamw.h"

#include "core/ops/update_control.h"
#include "tests/support/op_cases.h"

namespace weft::ops {
namespace {

struct Hyper {
  double lr = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
};

void update(const std::vector<AdamwRun>& runs, const Tensor& control, const Hyper& hyper) {
  adamw({.runs = runs,
         .control = control,
         .beta1 = static_cast<float>(hyper.beta1),
         .beta2 = static_cast<float>(hyper.beta2),
         .eps = static_cast<float>(hyper.eps)});
}

// torch.optim.AdamW of one element, statement by statement (amsgrad and maximize off), in double.
struct Reference {
  double weight = 0, m = 0, v = 0;
  void step(double grad, const Hyper& h, double t) {
    weight *= 1 - h.lr * h.weight_decay;
    m += (grad - m) * (1 - h.beta1);
    v = v * h.beta2 + (1 - h.beta2) * grad * grad;
    const double bias_correction1 = 1 - std::pow(h.beta1, t);
    const double bias_correction2 = 1 - std::pow(h.beta2, t);
    const double denominator = std::sqrt(v) / std::sqrt(bias_correction2) + h.eps;
    weight -= h.lr / bias_correction1 * m / denominator;
  }
};

// What ops::update_control says of step t.
Tensor control_of(double factor, double go, const Hyper& h, int64_t t = 1) {
  const double step = static_cast<double>(t);
  return test::from_doubles({factor, go, 1 / (1 - std::pow(h.beta1, step)),
                             1 / std::sqrt(1 - std::pow(h.beta2, step)), 1},
                            {static_cast<int64_t>(Control::count_)}, DType::f32);
}

struct State {
  Tensor value, master, m, v;
  State(int64_t n, DType dtype) {
    const Tensor start = test::random_tensor({n}, DType::f32, 1);
    m = Tensor::zeros({n}, DType::f32, start.device());
    v = Tensor::zeros({n}, DType::f32, start.device());
    if (dtype == DType::f32) {
      value = start;
    } else {
      master = start;
      value = test::from_doubles(test::to_doubles(start), {n}, dtype);
    }
  }
  const Tensor& weights() const { return master.defined() ? master : value; }
  AdamwRun run(const Tensor& grad, const Hyper& hyper) const {
    return {.value = value,
            .master = master,
            .grad = grad,
            .m = m,
            .v = v,
            .lr = static_cast<float>(hyper.lr),
            .weight_decay = static_cast<float>(hyper.weight_decay)};
  }
  void update(const Tensor& grad, const Tensor& control, const Hyper& hyper) const {
    ops::update({run(grad, hyper)}, control, hyper);
  }
};

class Adamw : public test::OpTest {};

TEST_P(Adamw, IsTorchsFormulaOverTwentySteps) {
  for (DType grad_type : {DType::f32, dtype()})
    for (int64_t n : {0, 1, 31, 33, 1000, 40000}) {
      const State state(n, dtype());
      std::vector<Reference> want(static_cast<size_t>(n));
      const std::vector<double> start = test::to_doubles(state.weights());
      for (size_t i = 0; i < want.size(); ++i) want[i].weight = start[i];
      const Hyper hyper{.lr = 3e-3, .beta2 = 0.95, .weight_decay = 0.1};
      for (int64_t t = 1; t <= 20; ++t) {
        const Tensor grad = test::random_tensor({n}, grad_type, static_cast<uint32_t>(t), 0.01);
        state.update(grad, control_of(0.5, 1, hyper, t), hyper);
        const std::vector<double> g = test::to_doubles(grad);
        for (size_t i = 0; i < want.size(); ++i)
          want[i].step(0.5 * g[i], hyper, static_cast<double>(t));
      }
      std::vector<double> weights, m, v;
      for (const Reference& r : want) {
        weights.push_back(r.weight);
        m.push_back(r.m * 1e2);
        v.push_back(r.v * 1e5);
      }
      test::expect_close(state.weights(), weights, 3e-7 * 10, "weights");
      std::vector<double> got_m = test::to_doubles(state.m), got_v = test::to_doubles(state.v);
      for (double& x : got_m) x *= 1e2;
      for (double& x : got_v) x *= 1e5;
      test::expect_close(got_m, m, 1e-6, "m");
      test::expect_close(got_v, v, 1e-6, "v");
    }
}

TEST_P(Adamw, ValueIsTheRoundedMaster) {
  const State state(1001, dtype());
  state.update(test::random_tensor({1001}, DType::f32, 2), control_of(1, 1, {}), {.lr = 1e-2});
  EXPECT_TRUE(test::same_bytes(
      state.value, test::from_doubles(test::to_doubles(state.weights()), {1001}, dtype())));
}

TEST_P(Adamw, ANoOpLeavesEveryByte) {
  const State state(1001, dtype());
  state.update(test::random_tensor({1001}, DType::f32, 2), control_of(1, 1, {}), {.lr = 1e-2});
  const Tensor value = state.value.clone(), weights = state.weights().clone();
  const Tensor m = state.m.clone(), v = state.v.clone();
  const Tensor grad = test::from_doubles(std::vector<double>(1001, NAN), {1001}, DType::f32);
  state.update(grad, control_of(NAN, 0, {}, 2), {.lr = 1e-2, .weight_decay = 0.1});
  EXPECT_TRUE(test::same_bytes(state.value, value));
  EXPECT_TRUE(test::same_bytes(state.weights(), weights));
  EXPECT_TRUE(test::same_bytes(state.m, m));
  EXPECT_TRUE(test::same_bytes(state.v, v));
}

TEST_P(Adamw, DecayIsDecoupled) {
  const State state(33, dtype());
  const std::vector<double> before = test::to_doubles(state.weights());
  state.update(Tensor::zeros({33}, DType::f32, device()), control_of(1, 1, {}),
               {.lr = 0.1, .weight_decay = 0.5});
  std::vector<double> want = before;
  for (double& w : want) w *= 0.95;
  test::expect_close(state.weights(), want, 1e-7);
  EXPECT_EQ(test::to_doubles(state.m), std::vector<double>(33, 0.0));
}

TEST_P(Adamw, FirstStepIsTheLearningRateWhateverTheGradient) {
  const State state(3, dtype());
  const std::vector<double> before = test::to_doubles(state.weights());
  const Tensor grad = test::from_doubles({1e-3, -5, 1e6}, {3}, DType::f32);
  state.update(grad, control_of(1, 1, {}), {.lr = 1e-2});
  const std::vector<double> after = test::to_doubles(state.weights());
  EXPECT_NEAR(after[0], before[0] - 1e-2, 3e-7);
  EXPECT_NEAR(after[1], before[1] + 1e-2, 3e-7);
  EXPECT_NEAR(after[2], before[2] - 1e-2, 3e-7);
}

TEST_P(Adamw, GivesTheSameBitsEverywhere) {
  const Tensor grad = test::random_tensor({100003}, DType::f32, 2);
  test::expect_same_bits_everywhere([&] {
    const State state(100003, dtype());
    for (int64_t step = 1; step <= 3; ++step)
      state.update(grad, control_of(0.7, 1, {}, step), {.lr = 1e-3, .weight_decay = 0.1});
    return std::vector<Tensor>{state.value, state.weights(), state.m, state.v};
  });
}

// A shard of a flat range: all pieces begin alike, or a gradient of its own begins elsewhere.
TEST_P(Adamw, UpdatesAPieceAloneWhereverItBegins) {
  const Hyper hyper{.lr = 1e-2, .weight_decay = 0.1};
  const State whole(1001, dtype());
  const Tensor grad = test::random_tensor({1001}, DType::f32, 2);
  whole.update(grad, control_of(1, 1, hyper), hyper);
  for (int64_t begin : {1, 3, 4, 998})
    for (const bool own_grad : {false, true}) {
      const State state(1001, dtype());
      const int64_t n = std::min<int64_t>(900, 1001 - begin);
      const auto part = [&](const Tensor& t) { return t.defined() ? t.flat(begin, {n}) : t; };
      State piece = state;
      piece.value = part(state.value);
      piece.master = part(state.master);
      piece.m = part(state.m);
      piece.v = part(state.v);
      const State untouched(1001, dtype());
      piece.update(own_grad ? part(grad).clone() : part(grad), control_of(1, 1, hyper), hyper);
      EXPECT_TRUE(test::same_bytes(piece.weights(), part(whole.weights())));
      EXPECT_TRUE(test::same_bytes(piece.value, part(whole.value)));
      EXPECT_TRUE(test::same_bytes(piece.m, part(whole.m)));
      EXPECT_TRUE(test::same_bytes(piece.v, part(whole.v)));
      for (const auto& [from, to] : {std::pair{int64_t{0}, begin}, {begin + n, int64_t{1001}}})
        EXPECT_TRUE(test::same_bytes(state.weights().flat(from, {to - from}),
                                     untouched.weights().flat(from, {to - from})));
    }
}

TEST_P(Adamw, GivesTheBitsOfTheCpu) {
  const Hyper hyper{.lr = 1e-3, .weight_decay = 0.1};
  const Tensor grad = test::random_tensor({10007}, DType::f32, 2);
  const State there(10007, dtype());
  there.update(grad, control_of(0.7, 1, hyper, 3), hyper);
  test::device_of_test() = {};
  const State here(10007, DType::f32);
  here.update(grad.to({}), control_of(0.7, 1, hyper, 3), hyper);
  EXPECT_TRUE(test::same_bytes(there.weights(), here.weights()));
  EXPECT_TRUE(test::same_bytes(there.m, here.m));
  EXPECT_TRUE(test::same_bytes(there.v, here.v));
  test::device_of_test() = device();
}

// bf16 weights without a master copy, bf16 states.
struct Small {
  Tensor value, m, v;
  explicit Small(int64_t n, uint32_t seed = 1)
      : value(test::random_tensor({n}, DType::bf16, seed)),
        m(Tensor::zeros({n}, DType::bf16, value.device())),
        v(m.clone()) {}
  AdamwRun run(const Tensor& grad, const Hyper& hyper, const StochasticRounding& rounding) const {
    return {.value = value,
            .master = {},
            .grad = grad,
            .m = m,
            .v = v,
            .lr = static_cast<float>(hyper.lr),
            .weight_decay = static_cast<float>(hyper.weight_decay),
            .rounding = rounding};
  }
  void update(const Tensor& grad, const Tensor& control, const Hyper& hyper,
              const StochasticRounding& rounding) const {
    ops::update({run(grad, hyper, rounding)}, control, hyper);
  }
};

TEST_P(Adamw, WithoutAMasterSmallStepsArriveOnAverage) {
  constexpr int64_t n = 40000;
  const Small small(n);
  const Tensor ones = test::from_doubles(std::vector<double>(n, 1.0), {n}, DType::bf16);
  small.value.copy_from(ones);
  // Each step is lr = 2^-13, a thirty-second of the distance between bf16 numbers below 1.
  const Hyper hyper{.lr = 0x1p-13};
  const Tensor grad = test::from_doubles(std::vector<double>(n, 0.5), {n}, DType::f32);
  for (int64_t t = 1; t <= 8; ++t)
    small.update(grad, control_of(1, 1, hyper, t), hyper, {static_cast<uint64_t>(t), 0});
  double mean = 0, mean_m = 0;
  for (double w : test::to_doubles(small.value)) mean += w / n;
  for (double m : test::to_doubles(small.m)) mean_m += m / n;
  EXPECT_NEAR(mean, 1 - 8 * 0x1p-13, 1e-4);
  EXPECT_NEAR(mean_m, 0.5 * (1 - std::pow(0.9, 8)), 1e-4);
}

TEST_P(Adamw, StochasticRoundingBelongsToTheGlobalIndex) {
  const Tensor grad = test::random_tensor({1001}, DType::f32, 2);
  const Hyper hyper{.lr = 1e-3, .weight_decay = 0.1};
  const Small whole(1001);
  whole.update(grad, control_of(1, 1, hyper), hyper, {7, 100});
  for (const auto& [begin, n] : {std::pair<int64_t, int64_t>{0, 1001}, {3, 900}, {997, 4}}) {
    const Small all(1001);
    Small piece = all;
    for (Tensor* t : {&piece.value, &piece.m, &piece.v}) *t = t->flat(begin, {n});
    piece.update(grad.flat(begin, {n}), control_of(1, 1, hyper), hyper, {7, 100 + begin});
    EXPECT_TRUE(test::same_bytes(piece.value, whole.value.flat(begin, {n})));
    EXPECT_TRUE(test::same_bytes(piece.m, whole.m.flat(begin, {n})));
    EXPECT_TRUE(test::same_bytes(piece.v, whole.v.flat(begin, {n})));
  }
}

TEST_P(Adamw, StochasticRoundingHasTheBitsOfTheCpu) {
  const Hyper hyper{.lr = 1e-3, .weight_decay = 0.1};
  const Tensor grad = test::random_tensor({10007}, DType::bf16, 2);
  const Small there(10007);
  there.update(grad, control_of(0.7, 1, hyper, 3), hyper, {11, 5});
  test::device_of_test() = {};
  const Small here(10007);
  here.update(grad.to({}), control_of(0.7, 1, hyper, 3), hyper, {11, 5});
  EXPECT_TRUE(test::same_bytes(there.value, here.value));
  EXPECT_TRUE(test::same_bytes(there.m, here.m));
  EXPECT_TRUE(test::same_bytes(there.v, here.v));
  test::device_of_test() = device();
}

// Many pieces of one State, and some of a Small between them: more than a GPU takes in a launch, of
// odd sizes at odd places, some with a gradient that begins elsewhere, each with a learning rate,
// a decay and draws of its own.
struct Pieces {
  static constexpr int64_t kPieces = 250, kElements = 40000;
  State state;
  Small small{kElements};
  Tensor grad = test::random_tensor({kElements}, DType::f32, 2), elsewhere = grad.clone();
  std::vector<AdamwRun> runs;

  explicit Pieces(DType dtype) : state(kElements, dtype) {
    int64_t at = 1;
    for (int64_t i = 0; i < kPieces; ++i) {
      const int64_t n = i == 77 ? 10007 : i % 5 == 0 ? 0 : i * 37 % 211;
      const bool draws = i % 100 == 99;
      const int64_t shift = i % 7 == 3 ? 1 : 0;
      const Hyper hyper{.lr = 1e-3 * static_cast<double>(1 + i % 4),
                        .weight_decay = 0.1 * static_cast<double>(i % 2)};
      AdamwRun run = draws ? small.run(grad, hyper, {static_cast<uint64_t>(i), 5 * i})
                           : state.run(grad, hyper);
      run.grad = elsewhere.flat(at + shift, {n});
      for (Tensor* t : {&run.value, &run.master, &run.m, &run.v})
        if (t->defined()) *t = t->flat(at, {n});
      runs.push_back(run);
      at += n + i % 3;
    }
  }
  std::vector<Tensor> results() const {
    return {state.value, state.weights(), state.m, state.v, small.value, small.m, small.v};
  }
};

TEST_P(Adamw, ManyRunsAtOnceAreTheSameAsOneByOne) {
  const Hyper betas{.beta2 = 0.95};
  const Pieces together(dtype()), apart(dtype());
  for (int64_t t = 1; t <= 2; ++t) {
    update(together.runs, control_of(0.7, 1, betas, t), betas);
    for (const AdamwRun& run : apart.runs) update({run}, control_of(0.7, 1, betas, t), betas);
  }
  const auto got = together.results(), want = apart.results();
  for (size_t i = 0; i < want.size(); ++i)
    EXPECT_TRUE(test::same_bytes(got[i], want[i])) << "result " << i;
  EXPECT_FALSE(test::same_bytes(together.state.m, Pieces(dtype()).state.m));
}

TEST_P(Adamw, ManyRunsGiveTheSameBitsEverywhere) {
  test::expect_same_bits_everywhere([&] {
    const Pieces pieces(dtype());
    update(pieces.runs, control_of(0.7, 1, {}), {});
    return pieces.results();
  });
}

TEST_P(Adamw, ANoOpLeavesEveryByteOfManyRuns) {
  const Pieces pieces(dtype()), untouched(dtype());
  update(pieces.runs, control_of(NAN, 0, {}), {});
  const auto got = pieces.results(), want = untouched.results();
  for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(test::same_bytes(got[i], want[i]));
}

TEST_P(Adamw, OfNoRunsIsNothing) {
  update({}, control_of(1, 1, {}), {});
}

INSTANTIATE_OP_TESTS(Adamw);

TEST(AdamwChecks, AnF16ValueNeedsAMaster) {
  const Tensor value = Tensor::zeros({4}, DType::f16), f32 = Tensor::zeros({4}, DType::f32);
  const AdamwRun run{.value = value, .master = {}, .grad = f32, .m = f32, .v = f32};
  EXPECT_THROW(update({run}, control_of(1, 1, {}), {}), Error);
}

}  // namespace
}  // namespace weft::ops
