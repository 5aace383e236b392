#include "recipes/bench_floor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/log.h"
#include "core/nn/head.h"
#include "core/ops/attention.h"
#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"
#include "recipes/bench_timer.h"

namespace weft::recipes {
namespace {

Tensor random(const Shape& shape, DType dtype, Device device, float scale = 1) {
  const Tensor t = Tensor::empty(shape, dtype, device, MemoryTag::workspace);
  ops::fill_normal(t, {1, "bench", 0, 0, scale});
  return t;
}

double copy_speed(BenchTimer& timer, Device device) {
  const int64_t numel = (device.is_cpu() ? int64_t{64} << 20 : int64_t{1} << 30) / 4;
  const Tensor from = Tensor::zeros({64, numel / 64}, DType::f32, device, MemoryTag::workspace);
  const Tensor to = Tensor::zeros(from.shape(), DType::f32, device, MemoryTag::workspace);
  const double seconds =
      timer.median([&] { device.is_cpu() ? ops::copy(from, to) : to.copy_from(from); });
  return 2 * static_cast<double>(from.bytes()) / seconds;
}

// y = x W^T, dX = dY W, dW += dY^T X of one projection, as nn::Projection and nn::Head call them.
struct ProductShape {
  std::string name;
  int64_t tokens = 0, in = 0, out = 0;
  double forwards = 0;   // calls in a step
  double backwards = 0;  // of dX, and of dW where the weight trains
};

void measure_products(const StepShape& s, const ProductShape& p, BenchTimer& timer, Floor& floor) {
  const Tensor x = random({p.tokens, p.in}, s.dtype, s.device);
  const Tensor w = random({p.out, p.in}, s.dtype, s.device, 0.02f);
  // dY is random numbers too: power, and with it the clock, depends on the bits.
  const Tensor dy = random({p.tokens, p.out}, s.dtype, s.device);
  const Tensor y = Tensor::empty(dy.shape(), s.dtype, s.device, MemoryTag::workspace);
  const double flops =
      2.0 * static_cast<double>(p.tokens) * static_cast<double>(p.in) * static_cast<double>(p.out);
  const auto add = [&](const char* what, int64_t m, int64_t n, int64_t k, double calls,
                       const std::function<void()>& product) {
    floor.products.push_back({p.name + " " + what, fmt::format("{} x {} x {}", m, n, k), flops,
                              timer.median(product), calls});
  };
  add("forward", p.tokens, p.out, p.in, p.forwards, [&] { ops::matmul(x, ops::transposed(w), y); });
  const Tensor dx = Tensor::empty(x.shape(), s.dtype, s.device, MemoryTag::workspace);
  add("dX", p.tokens, p.in, p.out, p.backwards, [&] { ops::matmul(dy, w, dx); });
  if (!s.frozen_base) {
    const Tensor dw = Tensor::zeros(w.shape(), s.gradient_dtype, s.device, MemoryTag::workspace);
    add("dW", p.out, p.in, p.tokens, p.backwards,
        [&] { ops::matmul(ops::transposed(dy), x, dw, {.accumulate = true}); });
  }
}

std::vector<ProductShape> product_shapes(const StepShape& s) {
  const models::DecoderConfig& c = s.model;
  const int64_t q = c.num_attention_heads * c.head_dim, kv = c.num_key_value_heads * c.head_dim;
  const int64_t hidden = c.hidden_size, ffn = c.intermediate_size;
  const double once = static_cast<double>(c.num_hidden_layers * s.micro_batches);
  // Computing a block again ends with the input of its last product.
  const double forwards = once + static_cast<double>(s.layers(Recompute::full) * s.micro_batches);
  const int64_t chunk =
      nn::Head::rows_at_once(s.tokens(), c.vocab_size, s.dtype, s.device, !s.frozen_base);
  const double chunks = s.tokens_a_step() / static_cast<double>(chunk);
  // Nobody wants the gradient of the first block's input where the embedding is frozen.
  const double of_inputs = once - static_cast<double>(s.frozen_base ? s.micro_batches : 0);
  return {{"qkv", s.tokens(), hidden, q + 2 * kv, forwards, of_inputs},
          {"o", s.tokens(), q, hidden, forwards, once},
          {"gate+up", s.tokens(), hidden, 2 * ffn, forwards, once},
          {"down", s.tokens(), ffn, hidden, once, once},
          {"head", chunk, hidden, c.vocab_size, chunks, chunks}};
}

void measure_attention(const StepShape& s, BenchTimer& timer, Floor& floor) {
  const models::DecoderConfig& c = s.model;
  const int64_t q = c.num_attention_heads * c.head_dim, kv = c.num_key_value_heads * c.head_dim;
  const Tensor qkv = random({s.tokens(), q + 2 * kv}, s.dtype, s.device);
  const Tensor dqkv = Tensor::empty(qkv.shape(), s.dtype, s.device, MemoryTag::workspace);
  const Tensor o = Tensor::empty({s.tokens(), q}, s.dtype, s.device, MemoryTag::workspace);
  const Tensor dout = random(o.shape(), s.dtype, s.device);
  std::vector<ops::AttentionDocument> documents;
  for (int64_t row = 0; row < s.rows; ++row)
    documents.push_back({row * s.seq_len, s.seq_len, row * s.seq_len, s.seq_len});
  const auto view = [](const Tensor& t, int64_t column) {
    return ops::HeadsView{
        static_cast<char*>(t.raw()) + static_cast<size_t>(column) * size_of(t.dtype()), t.dim(1)};
  };
  const ops::AttentionArgs args{
      .q = view(qkv, 0),
      .k = view(qkv, q),
      .v = view(qkv, q + kv),
      .o = view(o, 0),
      .lse = Tensor::empty({s.tokens(), c.num_attention_heads}, DType::f32, s.device,
                           MemoryTag::workspace),
      .shape = {.num_heads = c.num_attention_heads,
                .num_kv_heads = c.num_key_value_heads,
                .head_dim = c.head_dim,
                .scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim))},
      .documents = &documents,
      .dtype = s.dtype,
      .device = s.device};
  const ops::AttentionBackwardArgs backward{.forward = args,
                                            .dout = view(dout, 0),
                                            .dq = view(dqkv, 0),
                                            .dk = view(dqkv, q),
                                            .dv = view(dqkv, q + kv),
                                            .deterministic = s.deterministic};
  const std::string shape = fmt::format("{} x {}, heads {}/{} of {}", s.rows, s.seq_len,
                                        c.num_attention_heads, c.num_key_value_heads, c.head_dim);
  // Causal: half of the square. Backward: five products for the forward's two.
  const double flops = 2.0 * static_cast<double>(s.tokens()) * static_cast<double>(s.seq_len * q);
  const double once = static_cast<double>(c.num_hidden_layers * s.micro_batches);
  const double forwards = once + static_cast<double>(s.layers(Recompute::full) * s.micro_batches);
  floor.attention.push_back(
      {"attention forward", shape, flops, timer.median([&] { ops::attention(args); }), forwards});
  floor.attention.push_back({"attention backward", shape, 2.5 * flops,
                             timer.median([&] { ops::attention_backward(backward); }), once});
}

double sum(const std::vector<FloorPart>& parts) {
  double seconds = 0;
  for (const FloorPart& part : parts) seconds += part.total();
  return seconds;
}

}  // namespace

int64_t StepShape::layers(Recompute mode) const {
  int64_t count = 0;
  for (int64_t layer = 0; layer < model.num_hidden_layers; ++layer)
    count += recompute.of(static_cast<size_t>(layer)) == mode;
  return count;
}

// Elements of a token and layer, h: width, q and k: widths of queries and keys, f: of gate:
//
//   forward   norm, twice: read and write h                                   4h
//             residual, twice: read by the product that it is added to        2h
//             RoPE on q and k, in place                                      2(q + k)
//             (or with norms of q and k, into a qkv of its own               2(q + 2k))
//             SwiGLU: read gate and up, write the product                    3f
//   backward  SwiGLU: read dy, gate, up, write dgate, dup                    5f
//             norm + residual, twice: read dy, x, dresidual, write dx        8h
//             RoPE on dq and dk                                              2(q + k)
//             (or with their norms, which read q and k                       3(q + k))
//   again     selective: the outputs of the norms and of SwiGLU written once more, by the passes
//             above, which have read what they come from                     2h + f
//             full: all of the forward but for the last sum                  6h + RoPE + 3f
//   LoRA      gradients of the A and B of a projection: one pass over its x and one over its dy,
//             but for what SwiGLU's backward has at hand (dgate, dup and the x of down)
//                                                                            4h + 2q + 2k
//             selective: nothing again, for nothing of that is kept
//
// and of a token, v: vocabulary: the logits are read for their sum and read and written for their
// gradient (3v), the final norm forward and backward (4h + 4h), the embedding forward (2h) and,
// where it trains, its gradient (read dy, read and write f32 rows: 5h).
double elementwise_bytes(const StepShape& s) {
  const models::DecoderConfig& c = s.model;
  const double h = static_cast<double>(c.hidden_size), f = static_cast<double>(c.intermediate_size);
  const double q = static_cast<double>(c.num_attention_heads * c.head_dim);
  const double k = static_cast<double>(c.num_key_value_heads * c.head_dim);
  const double v = static_cast<double>(c.vocab_size);
  const double rope = c.qk_norm ? 2 * (q + 2 * k) : 2 * (q + k);
  const double rope_backward = c.qk_norm ? 3 * (q + k) : 2 * (q + k);
  const double forward = 6 * h + rope + 3 * f;
  double layer = forward + 5 * f + 8 * h + rope_backward;
  if (s.frozen_base) layer += 4 * h + 2 * q + 2 * k;
  const double cheap = s.frozen_base ? 0 : 2 * h + f;
  const double again = static_cast<double>(s.layers(Recompute::selective)) * cheap +
                       static_cast<double>(s.layers(Recompute::full)) * forward;
  const double ends = 3 * v + 8 * h + 2 * h + (s.frozen_base ? 0 : 5 * h);
  const double elements = static_cast<double>(c.num_hidden_layers) * layer + again + ends;
  return s.tokens_a_step() * elements * static_cast<double>(size_of(s.dtype));
}

double Floor::products_seconds() const {
  return sum(products);
}

double Floor::attention_seconds() const {
  return sum(attention);
}

double Floor::seconds() const {
  return products_seconds() + attention_seconds() + elementwise_seconds() + optimizer_seconds();
}

Floor measure_floor(const StepShape& shape) {
  Floor floor;
  BenchTimer timer(shape.device);
  floor.copy_bytes_per_second = copy_speed(timer, shape.device);
  for (const ProductShape& product : product_shapes(shape)) {
    log::debug("bench: products of {}", product.name);
    measure_products(shape, product, timer, floor);
  }
  measure_attention(shape, timer, floor);
  floor.elementwise_bytes = elementwise_bytes(shape);
  floor.optimizer_bytes = static_cast<double>(shape.optimizer_bytes);
  return floor;
}

}  // namespace weft::recipes
