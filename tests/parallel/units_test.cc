// ZeRO stage 1: what k ranks own, sum, update and publish is what one rank has.
#include "parallel/units.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "core/base/error.h"
#include "core/base/rng.h"
#include "core/ops/elementwise.h"
#include "core/ops/update_control.h"
#include "optim/adamw.h"
#include "optim/norm.h"
#include "parallel/thread_communicator.h"
#include "parallel/world.h"

namespace weft::parallel {
namespace {

using ::testing::HasSubstr;

nn::ParameterPtr parameter(const std::string& name, const Shape& shape, DType dtype) {
  auto p = std::make_shared<nn::Parameter>();
  p->name = name;
  p->shape = shape;
  p->dtype = dtype;
  p->decay = shape.rank() > 1;
  p->init = {nn::Init::Kind::normal, 0.5f};
  return p;
}

// Odd sizes, so that shards cut parameters; a frozen one among trainable ones; two dtypes in a
// unit.
std::vector<nn::Unit> make_units(DType dtype) {
  nn::Unit embedding{"embedding", {parameter("embed", {11, 7}, dtype)}};
  nn::Unit block{"block",
                 {parameter("q", {9, 7}, dtype), parameter("k", {3, 7}, dtype),
                  parameter("frozen", {5, 7}, dtype), parameter("v", {3, 7}, dtype),
                  parameter("norm", {7}, DType::f32)}};
  block.parameters[2]->trainable = false;
  return {embedding, block};
}

std::shared_ptr<Communicator> borrow(Communicator& group) {
  return {&group, [](Communicator*) {}};
}

std::vector<nn::ParameterPtr> parameters_of(const Units& units) {
  std::vector<nn::ParameterPtr> all;
  for (const nn::Unit& unit : units.table().units())
    all.insert(all.end(), unit.parameters.begin(), unit.parameters.end());
  return all;
}

std::string bytes_of(const Tensor& t) {
  return {static_cast<const char*>(t.raw()), t.bytes()};
}

TEST(Units, OneBufferForEachKindAndGroupsAreOneMatrix) {
  const auto self = make_self();
  Units units(make_units(DType::bf16), self);
  ASSERT_EQ(units.table().buffers().size(), 4u);  // embedding; block: bf16, frozen bf16, f32
  units.materialize();
  const auto all = parameters_of(units);
  const auto &q = *all[1], &k = *all[2], &frozen = *all[3], &v = *all[4], &norm = *all[5];
  EXPECT_EQ(static_cast<char*>(q.value.raw()) + q.value.bytes(), k.value.raw());
  EXPECT_EQ(static_cast<char*>(k.value.raw()) + k.value.bytes(), v.value.raw());
  EXPECT_EQ(static_cast<char*>(k.grad.raw()) + k.grad.bytes(), v.grad.raw());
  EXPECT_TRUE(q.value.same_storage(v.value));
  EXPECT_FALSE(q.value.same_storage(frozen.value));
  EXPECT_FALSE(q.value.same_storage(norm.value));
  EXPECT_FALSE(frozen.grad.defined());
  EXPECT_EQ(q.grad.dtype(), DType::f32);
  units.materialize({.f32_gradients = false});
  EXPECT_EQ(q.grad.dtype(), DType::bf16);
  units.materialize({.gradients = false});
  EXPECT_FALSE(q.grad.defined());
}

TEST(Units, MemoryIsCountedByPurpose) {
  const size_t values = memory_use(MemoryTag::parameter).current;
  const size_t grads = memory_use(MemoryTag::gradient).current;
  {
    Units units({{"big", {parameter("w", {512, 512}, DType::bf16)}}}, make_self());
    EXPECT_EQ(memory_use(MemoryTag::parameter).current, values);  // a blueprint
    units.materialize();
    EXPECT_EQ(memory_use(MemoryTag::parameter).current, values + 512 * 512 * 2);
    EXPECT_EQ(memory_use(MemoryTag::gradient).current, grads + 512 * 512 * 4);
  }
  EXPECT_EQ(memory_use(MemoryTag::parameter).current, values);
}

// Products make those of embed and k; of the others q begins a buffer, v ends it, norm has its own.
TEST(Units, GradientsThatAreNotProductsAreZeroAtAStepsStart) {
  Units units(make_units(DType::bf16), make_self());
  units.materialize();
  const auto all = parameters_of(units);
  for (const char* name : {"embed", "k"})
    for (const nn::ParameterPtr& p : all) p->grad_is_product |= p->name == name;
  const auto sum_of_ones = [](const nn::Parameter& p) {
    double sum = 0;
    for (int64_t i = 0; i < p.grad.numel(); ++i) sum += p.grad.data<float>()[i];
    return sum;
  };
  for (const nn::ParameterPtr& p : all)
    if (p->wants_grad()) ops::fill(p->grad, 1);
  units.zero_gradients();
  for (const nn::ParameterPtr& p : all) {
    if (!p->wants_grad()) continue;
    EXPECT_EQ(p->stale, p->grad_is_product) << p->name;
    EXPECT_EQ(sum_of_ones(*p), p->stale ? p->grad.numel() : 0) << p->name;
  }
  all[1]->stale = true;  // q, beside k
  ops::fill(all[1]->grad, 1);
  ops::fill(all[4]->grad, 1);  // v, behind it
  units.zero_stale_gradients();
  for (const nn::ParameterPtr& p : all) {
    if (!p->wants_grad()) continue;
    EXPECT_FALSE(p->stale) << p->name;
    EXPECT_EQ(sum_of_ones(*p), p->name == "v" ? p->grad.numel() : 0) << p->name;
  }
}

TEST(Units, SegmentsCoverEveryTrainableElementOnce) {
  for (int ranks : {1, 2, 3, 5, 8}) {
    const UnitTable table(make_units(DType::f32), {.data = ranks});
    std::map<std::string, std::vector<int>> seen;
    for (const FlatBuffer& buffer : table.buffers()) {
      if (!buffer.trainable) continue;
      EXPECT_EQ(buffer.padded % (ranks * kShardAlignment), 0);
      for (int rank = 0; rank < ranks; ++rank)
        for (const nn::Segment& s : table.segments(buffer, rank)) {
          EXPECT_LE(s.offset + s.count, table.shard_numel(buffer));
          seen[s.name].resize(s.shape.numel());
          for (int64_t i = 0; i < s.count; ++i) ++seen[s.name][s.begin + i];
          EXPECT_EQ(s.decay, s.name != "norm");
        }
    }
    EXPECT_EQ(seen.size(), 5u);
    for (const auto& [name, counts] : seen) {
      EXPECT_EQ(counts.size(), static_cast<size_t>(table.find(name).entry->count));
      for (int count : counts) ASSERT_EQ(count, 1) << name;
    }
  }
}

TEST(Units, InitialValuesDependOnSeedAndNameOnly) {
  Units alone(make_units(DType::f32), make_self());
  alone.materialize();
  alone.init_random(7);
  const std::string embed = bytes_of(parameters_of(alone)[0]->value);
  run_ranks(3, [&](Communicator& group) {
    Units units(make_units(DType::f32), borrow(group));
    units.materialize();
    units.init_random(7);
    EXPECT_EQ(bytes_of(parameters_of(units)[0]->value), embed);
    units.check_replicas();
  });
  const Tensor q = parameters_of(alone)[1]->value;
  EXPECT_NE(bytes_of(q).substr(0, 40), embed.substr(0, 40));
  alone.init_random(8);
  EXPECT_NE(bytes_of(parameters_of(alone)[0]->value), embed);
}

TEST(Units, ReplicasThatDifferAreNamed) {
  try {
    run_ranks(3, [&](Communicator& group) {
      Units units(make_units(DType::f32), borrow(group));
      units.materialize();
      units.init_random(7);
      if (group.rank() == 2) parameters_of(units)[3]->value.data<float>()[4] += 1e-6f;
      units.check_replicas();
    });
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("unit block on data ranks 0 and 2"));
  }
}

// The gradient of one rank in one step; small integers, so that every order of sums has the same
// bits.
void fill_gradient(const nn::Parameter& p, int rank, int step) {
  if (!p.wants_grad()) return;
  for (int64_t i = 0; i < p.grad.numel(); ++i) {
    const uint64_t draw = mix(hash_name(p.name) + i, static_cast<uint64_t>(step * 100 + rank));
    const float g = static_cast<float>(static_cast<int>(draw % 17) - 8);
    if (p.grad.dtype() == DType::f32)
      p.grad.data<float>()[i] += g;
    else
      p.grad.data<bf16>()[i] = bf16(static_cast<float>(p.grad.data<bf16>()[i]) + g);
  }
}

// Some steps of k ranks' worth of gradients by `group`; returns all values, and the norms.
std::pair<std::string, std::vector<double>> train(Communicator& group, int k, DType dtype,
                                                  const UnitsOptions& options = {}) {
  Units units(make_units(dtype), borrow(group));
  units.materialize(options);
  units.init_random(3);
  optim::Adamw adamw(units.shards(), {.weight_decay = 0.1, .max_grad_norm = 1});
  std::vector<double> norms;
  for (int step = 0; step < 5; ++step) {
    units.zero_gradients();
    for (int u = 0; u < units.size(); ++u) units.gather(u);
    for (int u = units.size() - 1; u >= 0; --u) {
      for (int share = 0; share < k; ++share)
        if (group.size() == 1 || share == group.rank())
          for (const nn::ParameterPtr& p : units.table().units()[u].parameters)
            fill_gradient(*p, share, step);
      units.reduce(u);
      units.release(u);
    }
    units.finish_reduce();
    const Tensor sums = Tensor::zeros({static_cast<int64_t>(adamw.shards().size())}, DType::f64);
    optim::sums_of_squares(adamw.shards(), sums);
    const Tensor gathered = Tensor::empty({group.size(), sums.numel()}, DType::f64);
    group.all_gather(sums, gathered).wait();
    const Tensor report = adamw.update(1e-2, step, gathered);
    norms.push_back(report.data<double>()[static_cast<int>(ops::StepReport::grad_norm)]);
    units.publish();
  }
  units.gather_all();
  units.check_replicas();
  std::string values;
  for (const nn::ParameterPtr& p : parameters_of(units)) values += bytes_of(p->value);
  return {values, norms};
}

class ZeroOne : public ::testing::TestWithParam<DType> {};

TEST_P(ZeroOne, OverKRanksIsOneRankToTheBit) {
  for (int k : {2, 3, 4}) {
    const auto self = make_self();
    const auto alone = train(*self, k, GetParam());
    run_ranks(k, [&](Communicator& group) {
      const auto together = train(group, k, GetParam());
      EXPECT_EQ(together.second, alone.second);
      EXPECT_TRUE(together.first == alone.first) << k << " ranks: values differ";
    });
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, ZeroOne, ::testing::Values(DType::f32, DType::bf16),
                         [](const auto& info) { return std::string(name_of(info.param)); });

// Sums of small integers are exact in bf16 too: what travels in which dtype changes no bit.
TEST(Units, GradientsMayTravelInAnotherDtype) {
  for (const bool f32_gradients : {true, false})
    for (const DType travels : {DType::f32, DType::bf16})
      for (const int k : {2, 4}) {
        const auto self = make_self();
        const auto alone = train(*self, k, DType::bf16, {.f32_gradients = f32_gradients});
        run_ranks(k, [&](Communicator& group) {
          const auto together = train(group, k, DType::bf16,
                                      {.f32_gradients = f32_gradients, .reduce_dtype = travels});
          EXPECT_EQ(together.second, alone.second);
          EXPECT_TRUE(together.first == alone.first) << k << " ranks in " << name_of(travels);
        });
      }
}

// One parameter a unit, one value everywhere; what rank 0 then has of it.
float sum_of(float mine, float others, int ranks, const UnitsOptions& options) {
  float sum = 0;
  run_ranks(ranks, [&](Communicator& group) {
    std::vector<nn::Unit> blocks;
    for (int i = 0; i < 5; ++i)
      blocks.push_back({std::to_string(i), {parameter(std::to_string(i), {8, 8}, DType::bf16)}});
    Units units(blocks, borrow(group));
    units.materialize(options);
    for (const nn::ParameterPtr& p : parameters_of(units))
      ops::fill(p->grad, group.rank() == 0 ? mine : others);
    const size_t before = memory_use(MemoryTag::communication).current;
    for (int u = units.size() - 1; u >= 0; --u) units.reduce(u);
    units.finish_reduce();
    if (group.rank() != 0) return;
    EXPECT_LE(memory_use(MemoryTag::communication).current, before + 2 * 4096 * ranks);
    const Tensor shard = units.shards().front().grad;
    Tensor first = Tensor::empty({1}, DType::f32);
    ops::cast(shard.flat(0, {1}), first);
    sum = *first.data<float>();
  });
  return sum;
}

// bf16 has 8 bits: 256 + 1 + 1 + 1 is 256 + 4 where the sum is made in f32 and rounded once.
TEST(Units, SumsAreMadeInTheDtypeThatIsAskedFor) {
  const float fine = 1.0f / 512;
  const UnitsOptions in_f32{.f32_gradients = true}, by_bf16{.reduce_dtype = DType::bf16};
  EXPECT_EQ(sum_of(1, fine, 4, in_f32), 1 + 3 * fine);
  EXPECT_EQ(sum_of(1, fine, 4, by_bf16), static_cast<float>(bf16(1 + 3 * fine)));
  EXPECT_EQ(sum_of(1 + fine, 0, 2, in_f32), 1 + fine);
  EXPECT_EQ(sum_of(1 + fine, 0, 2, by_bf16), 1);  // rounded before it travels
  const UnitsOptions up{.f32_gradients = false, .reduce_dtype = DType::f32};
  EXPECT_EQ(sum_of(256, 1, 4, up), 260);
}

TEST(Units, AUnitIsReducedOncePerStep) {
  Units units(make_units(DType::f32), make_self());
  units.materialize();
  units.reduce(0);
  EXPECT_THROW(units.reduce(0), Error);
  units.finish_reduce();  // the other one too
  units.zero_gradients();
  units.reduce(0);
  units.finish_reduce();
}

// Ranks call reduce in different orders, or not at all (a rank whose last micro-batch is empty).
TEST(Units, SumsBelongToTheirUnitInWhateverOrderRanksReduce) {
  const auto blocks = [] {
    std::vector<nn::Unit> units;
    for (int i = 0; i < 4; ++i) {
      const std::string name = "block" + std::to_string(i);
      units.push_back({name, {parameter(name, {8, 8}, DType::f32)}});
    }
    units[2].parameters[0]->trainable = false;  // nobody need reduce it
    return units;
  };
  run_ranks(3, [&](Communicator& group) {
    Units units(blocks(), borrow(group));
    units.materialize();
    for (const nn::ParameterPtr& p : parameters_of(units)) fill_gradient(*p, group.rank(), 0);
    for (int u : {3, 1, 0})
      if (group.rank() != 1) units.reduce(group.rank() == 0 ? u : 3 - u);
    units.finish_reduce();
    for (const nn::Shard& shard : units.shards())
      for (const nn::Segment& s : shard.segments) {
        const auto want = parameter(s.name, {8, 8}, DType::f32);
        want->grad = Tensor::zeros({8, 8}, DType::f32);
        for (int rank = 0; rank < 3; ++rank) fill_gradient(*want, rank, 0);
        EXPECT_EQ(bytes_of(shard.grad.flat(s.offset, {s.count})),
                  bytes_of(want->grad.flat(s.begin, {s.count})))
            << s.name;
      }
  });
}

TEST(Units, ATiedWeightStandsInOneUnit) {
  const nn::ParameterPtr tied = parameter("embed", {4, 4}, DType::f32);
  EXPECT_THROW(Units({{"embedding", {tied}}, {"head", {tied}}}, make_self()), Error);
}

TEST(Units, PiecesOfAllRanksRebuildTheValues) {
  Units alone(make_units(DType::f32), make_self());
  alone.materialize();
  alone.init_random(5);
  std::map<std::string, std::string> want;
  for (const nn::ParameterPtr& p : parameters_of(alone)) want[p->name] = bytes_of(p->value);
  run_ranks(3, [&](Communicator& group) {
    Units units(make_units(DType::f32), borrow(group));
    units.materialize();
    for (const nn::StatePiece& piece : units.value_pieces()) {
      const nn::Segment& s = piece.segment;
      std::memcpy(piece.data.raw(), want.at(s.name).data() + s.begin * 4, s.count * 4);
    }
    units.publish();
    units.gather_all();
    for (const nn::ParameterPtr& p : parameters_of(units))
      if (p->trainable) {
        EXPECT_TRUE(bytes_of(p->value) == want[p->name]) << p->name;
      }
  });
}

}  // namespace
}  // namespace weft::parallel
