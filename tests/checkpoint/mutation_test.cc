// Every byte of small valid files is changed and every length tried: the readers throw Error or
// load, and reading what loaded stays inside the file (run under ASan, this is their proof).
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "checkpoint/export_gguf.h"
#include "checkpoint/export_hf.h"
#include "checkpoint/model_files.h"
#include "checkpoint/peft.h"
#include "checkpoint/safetensors.h"
#include "core/base/error.h"
#include "tests/support/model_bytes.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace weft::checkpoint {
namespace {

void read_everything(const WeightSource& weights) {
  for (const WeightInfo& info : weights.weights()) {
    if (info.shape.numel() == 0) continue;
    const Tensor out = Tensor::empty({1}, DType::bf16);
    try {
      weights.read(info.name, 0, out);
      weights.read(info.name, info.shape.numel() - 1, out);
    } catch (const Error&) {  // a type that is not read
    }
  }
}

// Tries `load` on every variant of the file; counts those that load.
struct Mutations {
  std::string path;
  std::function<void()> load;
  int loaded = 0, refused = 0;

  void attempt(const std::string& bytes) {
    std::filesystem::remove(path);  // some file systems sync a file that is cut and written again
    test::write_file(path, bytes);
    try {
      load();
      ++loaded;
    } catch (const Error& error) {
      EXPECT_TRUE(error.kind() == ErrorKind::bad_data || error.kind() == ErrorKind::no_input ||
                  error.kind() == ErrorKind::unavailable)
          << error.what();
      ++refused;
    }
  }

  // Bytes before `header` are changed; all lengths up to it and some beyond are tried.
  void run(size_t header) {
    const std::string valid = test::read_file(path);
    ASSERT_LE(header, valid.size());
    for (size_t at = 0; at < header; ++at) {
      for (unsigned char value : {0x00, 0x01, 0x7f, 0x80, 0xff, 0x2c, 0x7d}) {
        std::string bytes = valid;
        bytes[at] = static_cast<char>(value);
        attempt(bytes);
      }
      attempt(valid.substr(0, at));
    }
    for (size_t cut : {size_t{1}, size_t{32}, (valid.size() - header) / 2})
      attempt(valid.substr(0, valid.size() - cut));
    attempt(valid + "x");
    EXPECT_GT(refused, 0);
  }
};

// A model of one tensor of each kind that needs care; headers stay small.
const std::vector<std::pair<std::string, Tensor>>& few_tensors() {
  static const std::vector<std::pair<std::string, Tensor>> tensors = {
      {"model.embed_tokens.weight", Tensor::zeros({2, 32}, DType::f32)},
      {"model.layers.0.self_attn.q_proj.weight", Tensor::zeros({32, 32}, DType::f32)},
      {"model.norm.weight", Tensor::zeros({32}, DType::f32)}};
  return tensors;
}

TEST(Mutation, SafetensorsThrowOrLoad) {
  const test::TempDir dir;
  const std::string path = dir.file("model.safetensors");
  std::vector<SafetensorsPlan> plans;
  for (const auto& [name, tensor] : few_tensors()) plans.push_back({name, name, DType::bf16});
  write_safetensors(path, MemoryWeights(few_tensors()), plans);
  const size_t header = SafetensorsFile(path).entries().front().begin;
  Mutations mutations{path, [&] { read_everything(*SafetensorsWeights::open_file(path)); }};
  mutations.run(header);
  EXPECT_GT(mutations.loaded, 0);  // letters of names may change
}

TEST(Mutation, GgufThrowsOrLoads) {
  const test::TempDir dir;
  const std::string path = dir.file("model.gguf");
  test::TinyFiles model = test::tiny_files("llama");
  model.description.config.set("hidden_size", 32);
  model.description.config.set("num_attention_heads", 2);
  export_gguf(path, model.description, MemoryWeights(few_tensors()));
  const size_t header = GgufFile(path).tensors().front().begin;
  Mutations mutations{path, [&] { read_everything(*open_model(path).weights); }};
  mutations.run(header);
  EXPECT_GT(mutations.loaded, 0);
}

TEST(Mutation, IndexAndConfigsThrowOrLoad) {
  const test::TempDir dir;
  const test::TinyFiles model = test::tiny_files("llama3");
  export_hf(dir.file("hf"), model.description, MemoryWeights(few_tensors()), {DType::f32, 1000});
  for (const char* name : {"model.safetensors.index.json", "config.json"}) {
    const std::string path = dir.file("hf") + "/" + name;
    const std::string valid = test::read_file(path);
    Mutations mutations{path, [&] { read_everything(*open_model(dir.file("hf")).weights); }};
    mutations.run(valid.size());
    test::write_file(path, valid);
  }
}

TEST(Mutation, AdapterConfigThrowsOrLoads) {
  const test::TempDir dir;
  PeftConfig config;
  config.rank = 2;
  config.targets = {"q_proj"};
  config.rank_pattern = {{"q_proj", 2}};
  const std::string module = "model.layers.0.self_attn.q_proj";
  export_peft(dir.file("a"), config,
              MemoryWeights({{module + ".lora_A.weight", Tensor::zeros({2, 4}, DType::f32)},
                             {module + ".lora_B.weight", Tensor::zeros({4, 2}, DType::f32)}}),
              DType::f32);
  const std::string path = dir.file("a/adapter_config.json");
  Mutations mutations{path, [&] { read_everything(*open_peft(dir.file("a")).weights); }};
  mutations.run(test::read_file(path).size());
}

}  // namespace
}  // namespace weft::checkpoint
