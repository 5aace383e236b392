#include "recipes/generator.h"

#include <gtest/gtest.h>

#include "core/tensor/device_memory.h"
#include "parallel/world.h"
#include "tests/support/errors.h"
#include "tests/support/tiny_model.h"

namespace weft::recipes {
namespace {

using Ids = std::vector<int32_t>;

// The same weights on every device.
Model tiny(const std::string& family, Device device) {
  Model model;
  model.config = test::tiny_config(family);
  model.device = device;
  model.decoder = std::make_unique<models::Decoder>(model.config, DType::f32);
  model.units = std::make_unique<parallel::Units>(model.decoder->units(), parallel::make_self());
  model.units->materialize({.gradients = false, .device = device});
  for (const nn::ParameterPtr& p : model.decoder->parameters()) {
    nn::Parameter on_host = *p;
    on_host.value = Tensor::empty(p->shape, p->dtype);
    nn::initialize(on_host, 7);
    p->value.copy_from(on_host.value);
  }
  return model;
}

Ids prompt_of(int64_t length, int seed) {
  Ids ids;
  for (int64_t i = 0; i < length; ++i)
    ids.push_back(
        static_cast<int32_t>(mix(static_cast<uint64_t>(seed), static_cast<uint64_t>(i)) % 67));
  return ids;
}

// Prompts of one token and of many, answers of one token and of many.
std::vector<GenerateRequest> some_requests() {
  std::vector<GenerateRequest> requests;
  for (auto [length, tokens] :
       {std::pair(5, 40), {1, 40}, {70, 1}, {19, 3}, {300, 25}, {2, 0}, {33, 41}})
    requests.push_back({.prompt = prompt_of(length, length), .max_new_tokens = tokens});
  return requests;
}

class GeneratorTest : public testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    if (!device().is_cpu() && device_memory::count() == 0)
      GTEST_SKIP() << "needs a GPU: " << device_memory::why_none();
  }
  static Device device() { return {GetParam(), 0}; }
};

// The likeliest token behind `ids`, without a cache.
int32_t likeliest(const Model& model, const Ids& ids) {
  const int64_t n = static_cast<int64_t>(ids.size());
  Ids positions;
  for (int64_t i = 0; i < n; ++i) positions.push_back(static_cast<int32_t>(i));
  nn::Step step;
  step.mode = nn::Mode::evaluate;
  step.ids = i32_tensor(ids, model.device);
  step.positions = i32_tensor(positions, model.device);
  step.documents = {{0, n, 0, n}};
  model.decoder->prepare(step);
  const Tensor logits =
      model.decoder->logits(step, {static_cast<int32_t>(n) - 1}, model.hooks()).to({});
  return sample(logits.data<float>(), logits.dim(1), {}, 0);
}

TEST_P(GeneratorTest, GreedyTokensAreTheLikeliestOfTheWholeText) {
  for (const std::string family : {"llama3", "qwen2", "qwen3"}) {
    const Model model = tiny(family, device());
    Ids text = prompt_of(9, 3);
    const Generated made =
        Generator(model, {}).generate({{.prompt = text, .max_new_tokens = 30}})[0];
    EXPECT_EQ(made.finish, FinishReason::length);
    ASSERT_EQ(made.ids.size(), 30u);
    for (int32_t id : made.ids) {
      EXPECT_EQ(id, likeliest(model, text)) << family << ", token " << text.size();
      text.push_back(id);
    }
  }
}

TEST_P(GeneratorTest, TogetherRequestsGetWhatEachGetsAlone) {
  const Model model = tiny("llama", device());
  const std::vector<GenerateRequest> requests = some_requests();
  const Generator generator(model, {});
  const std::vector<Generated> together = generator.generate(requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(together[i].ids, generator.generate({requests[i]})[0].ids) << "request " << i;
    EXPECT_EQ(std::ssize(together[i].ids), requests[i].max_new_tokens);
  }
}

TEST_P(GeneratorTest, AGpuGivesTheTokensOfTheCpu) {
  if (device().is_cpu()) GTEST_SKIP() << "this is the CPU";
  const Model model = tiny("qwen3", device()), on_cpu = tiny("qwen3", {});
  const auto got = Generator(model, {}).generate(some_requests());
  const auto want = Generator(on_cpu, {}).generate(some_requests());
  for (size_t i = 0; i < want.size(); ++i) EXPECT_EQ(got[i].ids, want[i].ids) << "request " << i;
}

TEST_P(GeneratorTest, StopTokensAndCallersEndASequenceAndChangeNoOther) {
  const Model model = tiny("llama", device());
  std::vector<GenerateRequest> requests = some_requests();
  const std::vector<Generated> whole = Generator(model, {}).generate(requests);
  const int32_t stop = whole[0].ids[7];
  std::vector<Ids> seen(requests.size());
  for (size_t i = 0; i < requests.size(); ++i)
    requests[i].on_token = [&seen, i](int32_t id) {
      seen[i].push_back(id);
      return i != 6 || seen[i].size() < 4;
    };
  const std::vector<Generated> got = Generator(model, {stop}).generate(requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    Ids want = whole[i].ids;
    FinishReason finish = FinishReason::length;
    if (i == 6 && want.size() > 4) want.resize(4), finish = FinishReason::caller;
    const auto at = std::find(want.begin(), want.end(), stop);
    Ids all = want;
    if (at != want.end()) {
      all.assign(want.begin(), at + 1);
      want.erase(at, want.end());
      finish = FinishReason::stop_token;
    }
    EXPECT_EQ(got[i].ids, want) << "request " << i;
    EXPECT_EQ(seen[i], all) << "request " << i;
    if (requests[i].max_new_tokens > 0) {
      EXPECT_EQ(got[i].finish, finish) << "request " << i;
    }
  }
  EXPECT_LE(got[0].ids.size(), 7u);
}

TEST_P(GeneratorTest, AnAnswerEndsWithTheModel) {
  const Model model = tiny("llama", device());
  const Generated made =
      Generator(model, {}).generate({{.prompt = prompt_of(500, 1), .max_new_tokens = 100}})[0];
  EXPECT_EQ(made.ids.size(), 13u);  // the last one is never run
  EXPECT_EQ(made.finish, FinishReason::length);
}

TEST_P(GeneratorTest, DrawsDependOnSeedAndPlaceOnly) {
  const Model model = tiny("llama", device());
  std::vector<GenerateRequest> requests = some_requests();
  for (GenerateRequest& r : requests) r.sampling = {.temperature = 1.5, .top_p = 0.9, .seed = 5};
  const Generator generator(model, {});
  const std::vector<Generated> first = generator.generate(requests);
  EXPECT_EQ(generator.generate({requests[0]})[0].ids, first[0].ids);
  requests[3].sampling = {};
  const std::vector<Generated> again = generator.generate(requests);
  for (size_t i = 0; i < requests.size(); ++i)
    if (i != 3) EXPECT_EQ(again[i].ids, first[i].ids) << "request " << i;
  requests[0].sampling.seed = 6;
  EXPECT_NE(generator.generate(requests)[0].ids, first[0].ids);
}

TEST_P(GeneratorTest, RefusesWhatDoesNotFit) {
  const Model model = tiny("llama", device());
  const auto refuses = [&](const Ids& prompt) {
    return test::error_of(ErrorKind::bad_data,
                          [&] { Generator(model, {}).generate({{.prompt = prompt}}); });
  };
  EXPECT_NE(refuses({}).find("no tokens"), std::string::npos);
  EXPECT_NE(refuses({3, 67}).find("67"), std::string::npos);
  EXPECT_NE(refuses(prompt_of(512, 1)).find("512"), std::string::npos);
  EXPECT_TRUE(Generator(model, {}).generate({}).empty());
}

std::vector<DeviceKind> devices() {
#ifdef WEFT_HAS_CUDA
  return {DeviceKind::cpu, DeviceKind::cuda};
#else
  return {DeviceKind::cpu};
#endif
}
INSTANTIATE_TEST_SUITE_P(Everywhere, GeneratorTest, testing::ValuesIn(devices()),
                         [](const auto& info) {
                           return info.param == DeviceKind::cpu ? "cpu" : "cuda";
                         });

}  // namespace
}  // namespace weft::recipes
