// Bytes per second of the memory-bound CPU ops against a copy of the same size by the same threads.
// usage: light_ops_bench [threads] [tokens] [0 baseline, 1 avx2, 2 avx512] [part of a name]
#include <fmt/core.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>

#include "core/base/cpu_features.h"
#include "core/base/threads.h"
#include "core/ops/adamw.h"
#include "core/ops/dropout.h"
#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/qk_norm_rope.h"
#include "core/ops/rms_norm.h"
#include "core/ops/rope.h"
#include "core/ops/swiglu.h"

namespace weft {
namespace {

double seconds_of(const std::function<void()>& run) {
  using Clock = std::chrono::steady_clock;
  double best = 1e9;
  run();
  const auto start = Clock::now();
  for (int i = 0; i < 200 && Clock::now() - start < std::chrono::milliseconds(600); ++i) {
    const auto begin = Clock::now();
    run();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

// GB/s of copying `bytes / 2` bytes: as many read and written as the op touches. Plain stores as in
// the ops' outputs, and memcpy, which may write around the cache.
double copy_speed(size_t bytes) {
  const auto half = static_cast<int64_t>(bytes / 2);
  Tensor from = Tensor::zeros({half}, DType::u8), to = Tensor::zeros({half}, DType::u8);
  const double seconds = seconds_of([&] {
    parallel_for(half, 1, [&](int64_t begin, int64_t end) {
      std::memcpy(to.data<uint8_t>() + begin, from.data<uint8_t>() + begin,
                  static_cast<size_t>(end - begin));
    });
  });
  return static_cast<double>(bytes) / seconds / 1e9;
}

std::string wanted;  // part of the names to run

void report(const char* name, DType dtype, size_t bytes, const std::function<void()>& run) {
  if (std::string(name).find(wanted) == std::string::npos) return;
  const double seconds = seconds_of(run);
  const double speed = static_cast<double>(bytes) / seconds / 1e9;
  const double copy = copy_speed(bytes);
  fmt::print("{:<26}{:<6}{:>9.1f} MB{:>10.1f} us{:>8.1f} GB/s{:>8.1f} copy{:>6.0f} %\n", name,
             name_of(dtype), static_cast<double>(bytes) / 1e6, seconds * 1e6, speed, copy,
             100 * speed / copy);
}

Tensor filled(const Shape& shape, DType dtype, std::string_view name) {
  Tensor t = Tensor::empty(shape, dtype);
  ops::fill_normal(t, {.name = name});
  return t;
}

void bench_layers(DType dtype, int64_t tokens) {
  constexpr int64_t kWidth = 576, kFfn = 1536, kHeads = 9, kKvHeads = 3, kHeadDim = 64;
  const Tensor x = filled({tokens, kWidth}, dtype, "x"), r = filled({tokens, kWidth}, dtype, "r");
  const Tensor w = filled({kWidth}, dtype, "w");
  const Tensor dw = Tensor::zeros({kWidth}, DType::f32);
  const auto norm = ops::rms_norm(x, w, 1e-5f);
  const size_t b = x.bytes();
  report("add", dtype, 3 * b, [&] { ops::add(x, r); });
  report("axpy", dtype, 3 * b, [&] { ops::axpy(0.5f, x, r); });
  report("rms_norm", dtype, 2 * b, [&] { ops::rms_norm(x, w, 1e-5f); });
  report("add_rms_norm", dtype, 4 * b, [&] { ops::add_rms_norm(x, r, w, 1e-5f); });
  report("rms_norm_backward", dtype, 4 * b, [&] {
    ops::rms_norm_backward({.dy_TD = r,
                            .x_TD = x,
                            .weight_D = w,
                            .rstd_T = norm.rstd,
                            .dresidual_TD = r,
                            .dweight_D = dw});
  });
  const Tensor gate_up = filled({tokens, 2 * kFfn}, dtype, "gate_up");
  const Tensor dy = filled({tokens, kFfn}, dtype, "dy");
  report("swiglu", dtype, 3 * dy.bytes(), [&] { ops::swiglu(gate_up); });
  report("swiglu_backward", dtype, 5 * dy.bytes(), [&] { ops::swiglu_backward(dy, gate_up); });
  const int64_t qkv_width = (kHeads + 2 * kKvHeads) * kHeadDim;
  const Tensor qkv = filled({tokens, qkv_width}, dtype, "qkv");
  const Tensor positions = Tensor::zeros({tokens}, DType::i32);
  const Tensor frequencies = filled({kHeadDim / 2}, DType::f32, "f");
  const Tensor table = ops::rope_table(positions, frequencies);
  const size_t rotated = qkv.bytes() / static_cast<size_t>(qkv_width) * (kHeads + kKvHeads) * 64;
  report("rope", dtype, 2 * rotated + table.bytes(),
         [&] { ops::rope({.x = qkv, .table = table, .num_heads = kHeads + kKvHeads}); });
  const Tensor head_w = filled({kHeadDim}, dtype, "head_w");
  const Tensor head_dw = Tensor::zeros({kHeadDim}, DType::f32);
  const ops::QkNormRopeArgs heads{qkv, table, head_w, head_w, kHeads, kKvHeads, 1e-5f};
  const auto turned = ops::qk_norm_rope(heads);
  report("qk_norm_rope", dtype, 2 * qkv.bytes() + table.bytes(), [&] { ops::qk_norm_rope(heads); });
  report("qk_norm_rope_backward", dtype, 3 * rotated + table.bytes(), [&] {
    ops::qk_norm_rope_backward({turned.qkv, heads, turned.rstd, head_dw, head_dw});
  });
  report("bias_backward", dtype, qkv.bytes(),
         [&] { ops::bias_backward(qkv, Tensor::zeros({qkv_width}, DType::f32)); });
  const Tensor samples = Tensor::zeros({tokens}, DType::i64);
  report("dropout", dtype, 2 * b, [&] {
    ops::dropout({.x_TD = x, .sample_ids_T = samples, .positions_T = positions, .p = 0.1f});
  });
  const Tensor table_VD = filled({49152, kWidth}, dtype, "table");
  const Tensor ids = Tensor::empty({tokens}, DType::i32);
  for (int64_t t = 0; t < tokens; ++t)
    ids.data<int32_t>()[t] = static_cast<int32_t>(t * 37 % 49152);
  report("embedding", dtype, 2 * b, [&] { ops::embedding(table_VD, ids); });
  report("embedding_backward", dtype, 3 * b, [&] { ops::embedding_backward(x, ids, table_VD); });
}

void bench_flat(int64_t n) {
  const Tensor x = filled({n}, DType::f32, "x"), h = Tensor::zeros({n}, DType::bf16);
  const Tensor f = Tensor::zeros({n}, DType::f16), total = Tensor::zeros({1}, DType::f64);
  const auto count = static_cast<size_t>(n);
  report("cast f32 to bf16", DType::f32, 6 * count, [&] { ops::cast(x, h); });
  report("cast bf16 to f32", DType::f32, 6 * count, [&] { ops::cast(h, x); });
  report("cast f32 to f16", DType::f32, 6 * count, [&] { ops::cast(x, f); });
  report("cast f16 to f32", DType::f32, 6 * count, [&] { ops::cast(f, x); });
  report("sums_of_squares", DType::f32, 4 * count, [&] { ops::sums_of_squares({x}, total); });
  report("fill_normal", DType::f32, 4 * count, [&] { ops::fill_normal(x, {}); });
}

void bench_adamw(int64_t n) {
  const Tensor w = filled({n}, DType::f32, "w"), g = filled({n}, DType::f32, "g");
  const Tensor m = Tensor::zeros({n}, DType::f32), v = Tensor::zeros({n}, DType::f32);
  const Tensor value = Tensor::zeros({n}, DType::bf16), control = Tensor::zeros({5}, DType::f32);
  std::fill_n(control.data<float>(), 5, 1.0f);
  const auto count = static_cast<size_t>(n);
  const std::vector<ops::AdamwRun> plain{
      {.value = w, .master = {}, .grad = g, .m = m, .v = v, .lr = 1e-3f}};
  const std::vector<ops::AdamwRun> rounded{
      {.value = value, .master = w, .grad = g, .m = m, .v = v, .lr = 1e-3f}};
  report("adamw", DType::f32, 28 * count, [&] { ops::adamw({.runs = plain, .control = control}); });
  report("adamw, f32 master", DType::bf16, 30 * count,
         [&] { ops::adamw({.runs = rounded, .control = control}); });
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) {
  using namespace weft;
  if (argc > 1) set_num_threads(std::atoi(argv[1]));
  const int64_t tokens = argc > 2 ? std::atoll(argv[2]) : 1024;
  if (argc > 3) set_vector_isa_limit(static_cast<VectorIsa>(std::atoi(argv[3])));
  if (argc > 4) wanted = argv[4];
  fmt::print("{} threads, {} tokens, {}\n", num_threads(), tokens, name_of(vector_isa()));
  for (DType dtype : {DType::f32, DType::bf16}) bench_layers(dtype, tokens);
  bench_flat(1 << 24);
  bench_adamw(1 << 25);
}
