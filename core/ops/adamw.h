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
  int64_t step = 1;  // 1 in the first update; bias corrections are computed in f64 on the host
};

struct AdamwArgs {
  const Tensor& value;   // [n] f32 or bf16: written
  const Tensor& master;  // [n] f32: updated, then rounded into value; undefined when value is f32
  const Tensor& grad;    // [n] f32 or bf16: read
  const Tensor& m;       // [n] f32
  const Tensor& v;       // [n] f32
  const Tensor&
      control;  // [2] f32 on the device: factor for the gradient (clipping), and 1 to update or 0
                // for a no-op that leaves every byte as it was (non-finite gradients)
  AdamwHyper hyper;
};
void adamw(const AdamwArgs& args);

namespace cpu {
void adamw(const AdamwArgs& args);
}  // namespace cpu
namespace cuda {
void adamw(const AdamwArgs& args);
}  // namespace cuda

}  // namespace weft::ops
