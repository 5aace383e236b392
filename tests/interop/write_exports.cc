// A driver for formats_test.py: a model in every format that Weft writes, and an adapter with the
// model that it is merged into.
//   write_exports MODEL OUT
// OUT: hf, hf-sharded, model-*.gguf; adapted/adapter and adapted/hf.
#include <fmt/core.h>

#include <algorithm>

#include "checkpoint/export_gguf.h"
#include "checkpoint/export_hf.h"
#include "checkpoint/model_files.h"
#include "checkpoint/peft.h"
#include "core/base/error.h"
#include "core/nn/init.h"

using namespace weft;
using namespace weft::checkpoint;

namespace {

void write_model(const ModelFiles& model, const std::string& out) {
  export_hf(out + "/hf", model.description, *model.weights, {DType::f32});
  int64_t largest = 300'000;
  for (const WeightInfo& info : model.weights->weights())
    largest = std::max(largest, info.shape.numel() * 2);
  export_hf(out + "/hf-sharded", model.description, *model.weights, {DType::bf16, largest});
  for (const char* type : {"f32", "f16", "bf16", "q8_0"})
    export_gguf(out + "/model-" + type + ".gguf", model.description, *model.weights,
                {gguf_export_type(type), ""});
}

// Ranks and scales that differ among modules.
PeftConfig adapter_config() {
  PeftConfig config;
  config.rank = 3;
  config.alpha = 6;
  config.use_rslora = true;
  config.targets = {"q_proj", "down_proj"};
  config.rank_pattern = {{"down_proj", 5}};
  config.alpha_pattern = {{"layers.1.self_attn.q_proj", 4.5}};
  return config;
}

Tensor random_matrix(const std::string& name, int64_t rows, int64_t columns) {
  nn::Parameter matrix;
  matrix.name = name;
  matrix.init = {nn::Init::Kind::normal, 0.2f};
  matrix.shape = {rows, columns};
  matrix.value = Tensor::empty(matrix.shape, DType::f32);
  nn::initialize(matrix, 3);
  return matrix.value;
}

// weight_NK += scale * b_NR a_RK, element by element.
void merge(const Tensor& weight, const Tensor& a, const Tensor& b, float scale) {
  const int64_t rank = a.dim(0), columns = a.dim(1);
  for (int64_t i = 0; i < weight.numel(); ++i)
    for (int64_t r = 0; r < rank; ++r)
      weight.data<float>()[i] += scale * b.data<float>()[i / columns * rank + r] *
                                 a.data<float>()[r * columns + i % columns];
}

void write_adapter(const ModelFiles& model, const std::string& out) {
  const PeftConfig config = adapter_config();
  std::vector<std::pair<std::string, Tensor>> merged, adapter;
  for (const WeightInfo& info : model.weights->weights()) {
    const Tensor weight = model.weights->read_all(info.name, DType::f32);
    const std::string module = info.name.substr(0, info.name.rfind('.'));
    const bool adapted =
        info.name.ends_with("q_proj.weight") || info.name.ends_with("down_proj.weight");
    if (adapted) {
      const int64_t rank = config.rank_of(module);
      const std::string a_name = module + ".lora_A.weight", b_name = module + ".lora_B.weight";
      const Tensor a = random_matrix(a_name, rank, weight.dim(1));
      const Tensor b = random_matrix(b_name, weight.dim(0), rank);
      merge(weight, a, b, static_cast<float>(config.scale_of(module)));
      adapter.emplace_back(a_name, a);
      adapter.emplace_back(b_name, b);
    }
    merged.emplace_back(info.name, weight);
  }
  export_peft(out + "/adapter", config, MemoryWeights(std::move(adapter)), DType::f32);
  export_hf(out + "/hf", model.description, MemoryWeights(std::move(merged)), {DType::f32});
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 3) fail(ErrorKind::usage, "write_exports MODEL OUT");
  const ModelFiles model = open_model(argv[1]);
  write_model(model, argv[2]);
  write_adapter(model, std::string(argv[2]) + "/adapted");
  return 0;
} catch (const std::exception& e) {
  fmt::print(stderr, "write_exports: {}\n", e.what());
  return 1;
}
