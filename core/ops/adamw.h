// AdamW (Loshchilov & Hutter 2019, alg. 2) over flat runs of elements.
#pragma once

#include <vector>

#include "core/tensor/tensor.h"

namespace weft::ops {

// Draws of the stochastic rounding of element i of the run: Philox keyed by `key`, counter
// (g / 4, low and high half) of g = first_index + i, draw g % 4: its low half rounds the value, its
// high half m and v.
struct StochasticRounding {
  uint64_t key = 0;
  int64_t first_index = 0;
};

// Elements with a learning rate and a decay of their own.
struct AdamwRun {
  Tensor value;   // [n] f32, bf16 or (on GPUs) f16: written
  Tensor master;  // [n] f32: updated, then rounded into value. Undefined when the value is f32, or
                  // bf16 that is rounded stochastically itself
  Tensor grad;    // [n] f32 or the value's dtype: read
  Tensor m;       // [n] f32, or bf16 that is rounded stochastically
  Tensor v;       // [n] as m
  float lr = 0;
  float weight_decay = 0;  // decoupled: w -= lr * weight_decay * w
  StochasticRounding rounding = {};
};

struct AdamwArgs {
  // Of any sizes and dtypes, apart from each other; a GPU takes neighbours of the same dtypes in
  // one launch.
  const std::vector<AdamwRun>& runs;
  // Of ops::update_control: 0 in Control::update leaves every byte as it was.
  const Tensor& control;
  float beta1 = 0.9f;
  float beta2 = 0.999f;
  float eps = 1e-8f;
};
void adamw(const AdamwArgs& args);

namespace cpu {
void adamw(const AdamwArgs& args);
}  // namespace cpu
namespace cuda {
void adamw(const AdamwArgs& args);
}  // namespace cuda

}  // namespace weft::ops
