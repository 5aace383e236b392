// AdamW (Loshchilov & Hutter 2019, alg. 2) over a flat range of elements.
#pragma once

#include "core/tensor/tensor.h"

namespace weft::ops {

struct AdamwHyper {
  double lr = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;  // decoupled: w -= lr * weight_decay * w
};

// Draws of the stochastic rounding of element i of the range: Philox keyed by `key`, counter
// (g / 4, low and high half) of g = first_index + i, draw g % 4: its low half rounds the value, its
// high half m and v.
struct StochasticRounding {
  uint64_t key = 0;
  int64_t first_index = 0;
};

struct AdamwArgs {
  const Tensor& value;   // [n] f32, bf16 or (on GPUs) f16: written
  const Tensor& master;  // [n] f32: updated, then rounded into value. Undefined when the value is
                         // f32, or bf16 that is rounded stochastically itself
  const Tensor& grad;    // [n] f32 or the value's dtype: read
  const Tensor& m;       // [n] f32, or bf16 that is rounded stochastically
  const Tensor& v;       // [n] as m
  const Tensor&
      control;  // of ops::update_control: 0 in Control::update leaves every byte as it was
  AdamwHyper hyper;
  StochasticRounding rounding = {};
};
void adamw(const AdamwArgs& args);

namespace cpu {
void adamw(const AdamwArgs& args);
}  // namespace cpu
namespace cuda {
void adamw(const AdamwArgs& args);
}  // namespace cuda

}  // namespace weft::ops
