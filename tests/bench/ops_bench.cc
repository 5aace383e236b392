// Speed of the heavy CPU ops at SmolLM2-135M's shapes: GFLOP/s (GB/s where memory is the bound),
// best of repeated calls.  ops_bench [filter] [threads]
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

#include "core/base/threads.h"
#include "core/ops/matmul.h"
#include "tests/support/tensors.h"

namespace weft {
namespace {

std::string filter;

// Best time of a call in seconds over about a third of a second.
double best_seconds(const std::function<void()>& body) {
  using Clock = std::chrono::steady_clock;
  double best = 1e9, total = 0;
  for (int i = 0; i < 3 || (total < 0.33 && i < 3000); ++i) {
    const auto start = Clock::now();
    body();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::min(best, seconds);
    total += seconds;
  }
  return best;
}

void report(const std::string& name, double work, const char* unit,
            const std::function<void()>& body) {
  if (name.find(filter) == std::string::npos) return;
  const double seconds = best_seconds(body);
  std::printf("%-44s %9.1f %s  %10.1f us\n", name.c_str(), work / seconds * 1e-9, unit,
              seconds * 1e6);
  std::fflush(stdout);
}

struct Projection {
  const char* name;
  int64_t tokens, in, out;
};

// y = x W^T, dx = dy W, dW += dy^T x.
void bench_projection(const Projection& p, DType dtype) {
  const Tensor x = test::random_tensor({p.tokens, p.in}, dtype, 1);
  const Tensor w = test::random_tensor({p.out, p.in}, dtype, 2);
  const Tensor y = test::random_tensor({p.tokens, p.out}, dtype, 3);
  const Tensor dw = Tensor::zeros({p.out, p.in}, DType::f32);
  const double flops = 2.0 * p.tokens * p.in * p.out;
  const std::string name =
      fmt::format("matmul {} {} {}x{}x{} ", name_of(dtype), p.name, p.tokens, p.in, p.out);
  report(name + "y", flops, "GFLOP/s", [&] { ops::matmul(x, ops::transposed(w), y); });
  report(name + "dx", flops, "GFLOP/s", [&] { ops::matmul(y, w, x); });
  report(name + "dw", flops, "GFLOP/s",
         [&] { ops::matmul(ops::transposed(y), x, dw, {.accumulate = true}); });
}

void bench_decode(int64_t rows, int64_t in, int64_t out, DType dtype) {
  const Tensor x = test::random_tensor({rows, in}, dtype, 1);
  const Tensor w = Tensor::zeros({out, in}, dtype);
  const Tensor y = Tensor::zeros({rows, out}, dtype);
  report(fmt::format("matmul {} decode {}x{}x{}", name_of(dtype), rows, in, out),
         static_cast<double>(w.bytes()), "GB/s   ", [&] { ops::matmul(x, ops::transposed(w), y); });
}

void bench_matmul(DType dtype) {
  for (const Projection& p :
       {Projection{"qkv", 1024, 576, 960}, Projection{"o", 1024, 576, 576},
        Projection{"gate_up", 1024, 576, 3072}, Projection{"down", 1024, 1536, 576},
        Projection{"head", 256, 576, 49152}, Projection{"head", 1024, 576, 49152},
        Projection{"lora_a", 1024, 576, 16}, Projection{"lora_b", 1024, 16, 576},
        Projection{"lora_b", 1024, 16, 3072}, Projection{"lora_a", 1024, 1536, 16}})
    bench_projection(p, dtype);
  for (int64_t rows : {1, 2, 4, 5, 8, 16}) {
    bench_decode(rows, 576, 3072, dtype);
    bench_decode(rows, 576, 49152, dtype);
  }
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) {
  if (argc > 1) weft::filter = argv[1];
  if (argc > 2) weft::set_num_threads(std::atoi(argv[2]));
  std::printf("%d threads\n", weft::num_threads());
  for (weft::DType dtype : {weft::DType::f32, weft::DType::bf16}) weft::bench_matmul(dtype);
}
