// Speed of decoding, greedy, with random weights: decode_bench [--size 135m|1b] [--batch N]
// [--prompt N] [--tokens N] [--device cpu|cuda] [--dtype bf16|fp32] [--sampled]. One line of JSON;
// tests/bench/decode_peer.py prints the same of transformers. A token's time is that between the
// first and the last token of the batch: recording and all that happens once is in it.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <map>
#include <string>

#include "core/tensor/device_memory.h"
#include "parallel/world.h"
#include "recipes/generator.h"

namespace weft {
namespace {

using recipes::GenerateRequest;
using recipes::Model;
using Clock = std::chrono::steady_clock;

struct Size {
  int64_t layers, width, heads, kv_heads, ffn, vocab;
};
const std::map<std::string, Size> kSizes = {{"135m", {30, 576, 9, 3, 1536, 49152}},
                                            {"1b", {16, 2048, 32, 8, 8192, 128256}},
                                            {"tiny", {2, 128, 4, 2, 256, 1000}}};

struct Options {
  std::string size = "135m";
  std::string device = device_memory::count() > 0 ? "cuda" : "cpu";
  std::string dtype = "bf16";
  int64_t batch = 1;
  int64_t prompt = 128;
  int64_t tokens = 128;
  bool sampled = false;
};

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string key = argv[i];
    if (key == "--sampled") {
      options.sampled = true;
      continue;
    }
    if (i + 1 == argc) fail(ErrorKind::usage, "{}: no value", key);
    const std::string value = argv[++i];
    if (key == "--size" && kSizes.count(value))
      options.size = value;
    else if (key == "--device")
      options.device = value;
    else if (key == "--dtype")
      options.dtype = value;
    else if (key == "--batch")
      options.batch = std::stoll(value);
    else if (key == "--prompt")
      options.prompt = std::stoll(value);
    else if (key == "--tokens")
      options.tokens = std::stoll(value);
    else
      fail(ErrorKind::usage, "{} {}?", key, value);
  }
  return options;
}

Model make_model(const Options& options) {
  const Size& s = kSizes.at(options.size);
  const Json config(Json::Object{{"model_type", "llama"},
                                 {"hidden_size", s.width},
                                 {"intermediate_size", s.ffn},
                                 {"num_hidden_layers", s.layers},
                                 {"num_attention_heads", s.heads},
                                 {"num_key_value_heads", s.kv_heads},
                                 {"vocab_size", s.vocab},
                                 {"max_position_embeddings", 8192},
                                 {"rms_norm_eps", 1e-5},
                                 {"rope_theta", 500000.0},
                                 {"initializer_range", 0.02},
                                 {"tie_word_embeddings", true}});
  Model model;
  model.config = models::parse_decoder_config(config, options.size);
  if (options.device == "cuda") model.device = {DeviceKind::cuda, 0};
  model.decoder = std::make_unique<models::Decoder>(
      model.config, options.dtype == "fp32" ? DType::f32 : DType::bf16);
  model.units = std::make_unique<parallel::Units>(model.decoder->units(), parallel::make_self());
  model.units->materialize({.gradients = false, .device = model.device});
  model.units->init_random(1);
  return model;
}

struct Times {
  double prompt_ms = 0;
  double ms_per_token = 0;
};

double milliseconds(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double, std::milli>(end - begin).count();
}

Times measure(const Model& model, const Options& options, int64_t tokens) {
  Clock::time_point first, last;
  int64_t seen = 0;
  std::vector<GenerateRequest> requests;
  for (int64_t b = 0; b < options.batch; ++b) {
    GenerateRequest request{.prompt = {}, .max_new_tokens = tokens};
    for (int64_t i = 0; i < options.prompt; ++i)
      request.prompt.push_back(
          static_cast<int32_t>((b * 131 + i * 7919) % model.config.vocab_size));
    if (options.sampled) request.sampling = {.temperature = 0.8, .top_k = 50};
    requests.push_back(request);
  }
  requests.back().on_token = [&](int32_t) {
    last = Clock::now();
    if (seen++ == 0) first = last;
    return true;
  };
  const Clock::time_point begin = Clock::now();
  recipes::Generator(model, {}).generate(requests);
  return {milliseconds(begin, first),
          tokens > 1 ? milliseconds(first, last) / static_cast<double>(tokens - 1) : 0};
}

void run(const Options& options) {
  const Model model = make_model(options);
  measure(model, options, std::min<int64_t>(options.tokens, 4));  // what happens at first use
  const Times times = measure(model, options, options.tokens);
  fmt::print(
      "{{\"engine\": \"weft\", \"size\": \"{}\", \"device\": \"{}\", \"dtype\": \"{}\", \"batch\": "
      "{}, "
      "\"prompt\": {}, \"new_tokens\": {}, \"prompt_ms\": {:.3f}, \"ms_per_token\": {:.4f}, "
      "\"tokens_per_second\": {:.1f}}}\n",
      options.size, to_string(model.device), options.dtype, options.batch, options.prompt,
      options.tokens, times.prompt_ms, times.ms_per_token,
      1e3 * static_cast<double>(options.batch) / times.ms_per_token);
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) {
  try {
    weft::run(weft::parse(argc, argv));
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
