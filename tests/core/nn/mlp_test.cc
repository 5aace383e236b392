#include "core/nn/mlp.h"

#include "core/ops/rms_norm.h"
#include "tests/support/gradient_check.h"
#include "tests/support/op_cases.h"

namespace weft::nn {
namespace {

constexpr int64_t kTokens = 133, kWidth = 24, kGate = 40, kRank = 8;

// Which of the projections have adapters, and with which scales.
struct Adapters {
  bool gate = true, up = true, down = true;
  float gate_scale = 0.5f, up_scale = 0.5f;
};

// An MLP as the units' flat buffers hold it: matrices that are one product lie side by side.
class MlpTest : public test::OpTest {
 protected:
  ParameterPtr parameter(const Tensor& value, const Tensor& grad, bool trainable) {
    auto p = std::make_shared<Parameter>();
    p->shape = value.shape();
    p->trainable = trainable;
    p->value = value;
    p->grad = grad;
    return p;
  }
  // `count` parameters of [rows, columns] each.
  std::vector<ParameterPtr> stack(int count, int64_t rows, int64_t columns, bool trainable) {
    const Shape shape{count * rows, columns};
    const Tensor values = test::random_tensor(shape, dtype(), ++seed_, 0.3);
    const Tensor grads =
        trainable && trains_ ? Tensor::zeros(shape, DType::f32, device()) : Tensor();
    std::vector<ParameterPtr> parts;
    for (int i = 0; i < count; ++i) {
      const auto part = [&](const Tensor& t) {
        return t.defined() ? t.rows(i * rows, (i + 1) * rows) : Tensor();
      };
      parts.push_back(parameter(part(values), part(grads), trainable));
    }
    return parts;
  }
  // `scales`: of a member's adapter; 0: it has none.
  Projection projection(int64_t in, int64_t out, const std::vector<float>& scales,
                        bool trains_weights) {
    const int count = static_cast<int>(scales.size());
    const auto adapted = static_cast<int>(count - std::count(scales.begin(), scales.end(), 0.0f));
    const auto weights = stack(count, out, in, trains_weights);
    const auto as = stack(adapted, kRank, in, true), bs = stack(adapted, out, kRank, true);
    std::vector<ProjectionMember> members;
    for (size_t i = 0, next = 0; i < scales.size(); ++i) {
      ProjectionMember member{.name = fmt::format("{}", i), .weight = weights[i], .bias = nullptr};
      if (scales[i] > 0) {
        member.adapter = Adapter{as[next], bs[next], nullptr, scales[i]};
        ++next;
      }
      members.push_back(member);
    }
    return Projection(in, std::move(members));
  }
  // The same values whatever trains.
  Mlp mlp(bool trains_weights, const Adapters& have = {}) {
    seed_ = 0;
    Projection gate_up =
        projection(kWidth, kGate, {have.gate ? have.gate_scale : 0, have.up ? have.up_scale : 0},
                   trains_weights);
    return Mlp(std::move(gate_up),
               projection(kGate, kWidth, {have.down ? 0.5f : 0}, trains_weights));
  }

  // Forward as a block calls it: x is the norm of `from`.
  struct Run {
    Tensor x, y;
    Tape tape{Tape::Keep::everything};
  };
  Run forward(const Mlp& mlp) {
    Run run;
    const Tensor from = test::random_tensor({kTokens, kWidth}, dtype(), 20);
    const auto norm = parameter(test::random_tensor({kWidth}, dtype(), 21), {}, false);
    const ops::RmsNormResult normed = ops::rms_norm(from, norm->value, 1e-5f);
    run.x = normed.y;
    const auto again = [norm](const std::vector<Tensor>& of) {
      return ops::rms_norm_rebuild(of[0], norm->value, of[1]);
    };
    Tape::Rebuildable cheap(run.tape, run.x, {{from, normed.rstd}, again, norm});
    run.y = mlp.forward(run.x, step(), run.tape, from);
    return run;
  }
  Step step() {
    Step step;
    step.weight_grads = &weight_grads_;
    step.mode = mode_;
    return step;
  }

  WeightGrads weight_grads_;
  uint32_t seed_ = 0;
  Mode mode_ = Mode::train;
  bool trains_ = true;  // false: nothing that is made has a gradient
};

TEST_P(MlpTest, OfAFrozenBaseKeepsNeitherItsInputNorWhatItGates) {
  for (const bool trains_weights : {false, true}) {
    Run run = forward(mlp(trains_weights));
    bool keeps_x = false, keeps_gated = false;
    run.tape.for_each([&](Tensor& t) {
      keeps_x |= t.raw() == run.x.raw();
      keeps_gated |= t.shape() == Shape{kTokens, kGate};
    });
    EXPECT_EQ(keeps_x, trains_weights);
    EXPECT_EQ(keeps_gated, trains_weights);
  }
}

TEST_P(MlpTest, HasTheSameAdapterGradientsWhoeverMakesThem) {
  const Mlp frozen = mlp(false), trained = mlp(true);
  Run of_frozen = forward(frozen), of_trained = forward(trained);
  test::expect_close(of_frozen.y, test::to_doubles(of_trained.y), 4 * tolerance(), "y");
  const Tensor dy = test::random_tensor({kTokens, kWidth}, dtype(), 30);
  const Tensor dx = frozen.backward(dy, step(), of_frozen.tape);
  test::expect_close(dx, test::to_doubles(trained.backward(dy, step(), of_trained.tape)),
                     4 * tolerance(), "dx");
  EXPECT_TRUE(of_frozen.tape.empty());
  std::vector<ParameterPtr> have, want;
  frozen.collect(have);
  trained.collect(want);
  int compared = 0;
  for (size_t i = 0; i < have.size(); ++i) {
    if (!have[i]->trainable) continue;
    test::expect_close(have[i]->grad, test::to_doubles(want[i]->grad), 4 * tolerance(),
                       fmt::format("gradient {}", i));
    ++compared;
  }
  EXPECT_EQ(compared, 6);
}

// loss = sum of dy * y.
TEST_P(MlpTest, GradientsOfItsAdaptersAreTheSlopesOfItsOutput) {
  if (dtype() != DType::f32) GTEST_SKIP() << "finite differences are for f32";
  const Tensor dy = test::random_tensor({kTokens, kWidth}, dtype(), 30);
  for (const Adapters& have :
       {Adapters{}, Adapters{.up_scale = 0.25f}, Adapters{.gate = false}, Adapters{.up = false},
        Adapters{.down = false}, Adapters{.gate = false, .up = false}}) {
    const Mlp mlp = this->mlp(false, have);
    Run run = forward(mlp);
    mlp.backward(dy, step(), run.tape);
    std::vector<ParameterPtr> parameters;
    mlp.collect(parameters);
    for (size_t i = 0; i < parameters.size(); ++i)
      if (parameters[i]->trainable)
        test::expect_gradient(
            parameters[i]->value, parameters[i]->grad,
            [&] { return test::weighted_sum(forward(mlp).y, dy); },
            fmt::format("parameter {}, adapters {}{}{}", i, have.gate, have.up, have.down),
            {.samples = 8});
  }
}

TEST_P(MlpTest, EvaluatesWithoutGradientsAsItTrains) {
  const Tensor want = forward(mlp(false)).y;
  trains_ = false;
  mode_ = Mode::evaluate;
  test::expect_close(forward(mlp(false)).y, test::to_doubles(want), 4 * tolerance(), "y");
}

TEST_P(MlpTest, ProjectionThatLeavesItsAdaptersOutSaysWhatToAdd) {
  const Projection gate_up = projection(kWidth, kGate, {0.5f, 0.25f}, false);
  const Tensor x = test::random_tensor({kTokens, kWidth}, dtype(), 20);
  Tape tape{Tape::Keep::everything};
  const Tensor whole = gate_up.forward(x, step(), tape);
  Tensor h;
  const Tensor lacking = gate_up.forward(x, step(), tape, {.left_out_TR = &h});
  for (const ops::AdapterSegment& s : gate_up.adapter_segments())
    ops::matmul(ops::columns(h, s.rank, s.rank + s.ranks()), ops::transposed(s.b_NR),
                ops::columns(lacking, s.column, s.column + s.columns()),
                {.alpha = s.db_scale, .accumulate = true});
  test::expect_close(lacking, test::to_doubles(whole), tolerance(), "y");
}

INSTANTIATE_OP_TESTS(MlpTest);

}  // namespace
}  // namespace weft::nn
