// Speed of the heavy CPU ops at SmolLM2-135M's shapes: GFLOP/s (GB/s where memory is the bound),
// best of repeated calls.  ops_bench [filter] [threads]. With one thread, time is the thread's own
// CPU time, which other processes hardly disturb.
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <string>

#include "core/base/threads.h"
#include "core/ops/attention.h"
#include "core/ops/cross_entropy.h"
#include "core/ops/matmul.h"

namespace weft {
namespace {

std::string filter;

double now() {
  timespec t{};
  clock_gettime(num_threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Best time of a call in seconds over about a third of a second.
double best_seconds(const std::function<void()>& body) {
  double best = 1e9, total = 0;
  for (int i = 0; i < 3 || (total < 0.33 && i < 3000); ++i) {
    const double start = now();
    body();
    const double seconds = now() - start;
    best = std::min(best, seconds);
    total += seconds;
  }
  return best;
}

bool wanted(const std::string& name) {
  return name.find(filter) != std::string::npos;
}

// Values of no meaning, made quickly.
Tensor random(int64_t rows, int64_t cols, DType dtype) {
  const Tensor t = Tensor::empty({rows, cols}, dtype);
  uint32_t state = 1;
  for (int64_t i = 0; i < t.numel(); ++i) {
    state = state * 1664525u + 1013904223u;
    const float value = static_cast<float>(state >> 8) * 0x1p-23f - 1.0f;
    if (dtype == DType::f32)
      t.data<float>()[i] = value;
    else
      t.data<bf16>()[i] = bf16(value);
  }
  return t;
}

void report(const std::string& name, double work, const char* unit,
            const std::function<void()>& body) {
  if (!wanted(name)) return;
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
  const std::string name =
      fmt::format("matmul {} {} {}x{}x{} ", name_of(dtype), p.name, p.tokens, p.in, p.out);
  if (!wanted(name + "y") && !wanted(name + "dx") && !wanted(name + "dw")) return;
  const Tensor x = random(p.tokens, p.in, dtype), w = random(p.out, p.in, dtype);
  const Tensor y = random(p.tokens, p.out, dtype);
  const Tensor dw = Tensor::zeros({p.out, p.in}, DType::f32);
  const double flops = 2.0 * p.tokens * p.in * p.out;
  report(name + "y", flops, "GFLOP/s", [&] { ops::matmul(x, ops::transposed(w), y); });
  report(name + "dx", flops, "GFLOP/s", [&] { ops::matmul(y, w, x); });
  report(name + "dw", flops, "GFLOP/s",
         [&] { ops::matmul(ops::transposed(y), x, dw, {.accumulate = true}); });
}

void bench_decode(int64_t rows, int64_t in, int64_t out, DType dtype) {
  const Tensor x = random(rows, in, dtype);
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

// Documents of `length` tokens, 9 heads and 3 kv heads of 64, in a fused qkv. The work is what the
// causal mask leaves: 4 head_dim operations for each visible pair forward, 10 backward.
void bench_attention(int64_t count, int64_t length, DType dtype) {
  const ops::AttentionShape shape{9, 3, 64, 0.125f};
  const int64_t tokens = count * length;
  const Tensor qkv = random(tokens, 960, dtype);
  const Tensor dqkv = Tensor::zeros({tokens, 960}, dtype);
  const Tensor o = Tensor::zeros({tokens, 576}, dtype);
  const Tensor dout = random(tokens, 576, dtype);
  const Tensor lse = Tensor::zeros({tokens, 9}, DType::f32);
  std::vector<ops::AttentionDocument> documents;
  for (int64_t i = 0; i < count; ++i) documents.push_back({i * length, length, i * length, length});
  const auto at = [](const Tensor& t, int64_t column) {
    return ops::HeadsView{ops::columns(t, column, column).data, t.dim(1)};
  };
  const ops::AttentionArgs args{at(qkv, 0), at(qkv, 576), at(qkv, 768), at(o, 0), lse,
                                shape,      &documents,   dtype,        {}};
  const double pairs = 9.0 * count * length * (length + 1) / 2;
  const std::string name = fmt::format("attention {} {} x {} ", name_of(dtype), count, length);
  report(name + "forward", 4 * 64 * pairs, "GFLOP/s", [&] { ops::attention(args); });
  report(name + "backward", 10 * 64 * pairs, "GFLOP/s", [&] {
    ops::attention_backward({args, at(dout, 0), at(dqkv, 0), at(dqkv, 576), at(dqkv, 768)});
  });
}

// Both passes over the logits of a chunk; the rate is of their bytes, read twice and written once.
void bench_cross_entropy(int64_t tokens, int64_t vocab, DType dtype) {
  const std::string name = fmt::format("cross_entropy {} {} x {} ", name_of(dtype), tokens, vocab);
  if (!wanted(name + "stats") && !wanted(name + "dlogits")) return;
  const Tensor logits = random(tokens, vocab, dtype);
  const Tensor labels = Tensor::zeros({tokens}, DType::i32);
  const double bytes = static_cast<double>(logits.bytes());
  report(name + "stats", bytes, "GB/s   ", [&] { ops::logits_stats(logits, labels); });
  const Tensor lse = ops::token_loss(ops::logits_stats(logits, labels), labels).lse;
  report(name + "dlogits", 2 * bytes, "GB/s   ",
         [&] { ops::dlogits_in_place(logits, labels, lse, Tensor::scalar(1)); });
}

// One query against a cache.
void bench_cached_attention(int64_t length, DType dtype) {
  const Tensor q = random(1, 576, dtype), o = Tensor::zeros({1, 576}, dtype);
  const Tensor k = random(length, 192, dtype);
  const Tensor v = random(length, 192, dtype);
  const std::vector<ops::AttentionDocument> documents{{0, 1, 0, length}};
  report(fmt::format("attention {} one query of {} keys", name_of(dtype), length),
         static_cast<double>(k.bytes() + v.bytes()), "GB/s   ", [&] {
           ops::attention({{q.raw(), 576},
                           {k.raw(), 192},
                           {v.raw(), 192},
                           {o.raw(), 576},
                           {},
                           {9, 3, 64, 0.125f},
                           &documents,
                           dtype,
                           {}});
         });
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) {
  if (argc > 1) weft::filter = argv[1];
  if (argc > 2) weft::set_num_threads(std::atoi(argv[2]));
  std::printf("%d threads\n", weft::num_threads());
  for (weft::DType dtype : {weft::DType::f32, weft::DType::bf16}) {
    weft::bench_matmul(dtype);
    weft::bench_attention(4, 256, dtype);
    weft::bench_attention(1, 2048, dtype);
    weft::bench_attention(16, 64, dtype);
    weft::bench_cross_entropy(256, 49152, dtype);
    weft::bench_cached_attention(300, dtype);
    weft::bench_cached_attention(4096, dtype);
  }
}
