// SwiGLU between two projections with low-rank adapters: what these need of gate, up and y while it
// is at hand.
#pragma once

#include <vector>

#include "core/ops/adapter_gradients.h"

namespace weft::ops {

// Adapters of the projection in front whose part gate_up still lacks: gate_up is meant plus
// db_scale * h_i B_i^T in the columns of each. The sum may be rounded before it is gated, or not.
struct SwigluFront {
  Tensor h_TR;
  std::vector<AdapterSegment> segments;
};

struct SwigluHidden {
  Tensor y_TF;
  Tensor h_TR;  // scale * y A^T, summed in f32 and rounded once
};
// gate_up[T,2F] as in swiglu.h, not changed; a[R,F], the projection's behind, has its dtype.
SwigluHidden swiglu_hidden(const Tensor& gate_up_T2F, const Tensor& a_RF, float scale,
                           const SwigluFront& front = {});

// Whether both ops add the part of these adapters in the pass that they make anyway, for so many
// tokens and a[R,F]; else they can, but a product that makes gate_up should.
bool swiglu_adds_front(int64_t tokens, const Tensor& a_RF,
                       const std::vector<AdapterSegment>& segments);

struct SwigluAdaptersBackwardArgs {
  const Tensor& dy_TF;
  const Tensor& gate_up_T2F;  // becomes its own gradient, in place
  // The projection behind: da += dh^T y with the y that swiglu made of gate_up. Undefined: none.
  const Tensor& dh_behind_TR;
  const Tensor& da_RF;  // f32 or dy's dtype
  // The projection in front: adapter_gradients of gate_up's gradient. No segments: none.
  const Tensor& h_TR;
  const std::vector<AdapterSegment>& segments;
  bool adds_front = false;  // gate_up lacks their part, as in SwigluFront
};
// Returns dh[T, ranks of h] of the projection in front; undefined without segments. Neither y nor
// a second reading of gate_up's gradient is needed on a GPU. The same call gives the same bits.
Tensor swiglu_adapters_backward(const SwigluAdaptersBackwardArgs& args);

// The definitions, by the ops that they join.
void swiglu_hidden_by_parts(const Tensor& gate_up_T2F, const Tensor& a_RF, float scale,
                            const SwigluFront& front, const SwigluHidden& result);
void swiglu_adapters_backward_by_parts(const SwigluAdaptersBackwardArgs& args, const Tensor& dh_TR);

namespace cpu {
void swiglu_hidden(const Tensor& gate_up, const Tensor& a, float scale, const SwigluFront& front,
                   const SwigluHidden& result);
void swiglu_adapters_backward(const SwigluAdaptersBackwardArgs& args, const Tensor& dh);
}  // namespace cpu
namespace cuda {
// In one pass where they can: the rules are in kernels/cuda/swiglu_adapters.cu.
void swiglu_hidden(const Tensor& gate_up, const Tensor& a, float scale, const SwigluFront& front,
                   const SwigluHidden& result);
void swiglu_adapters_backward(const SwigluAdaptersBackwardArgs& args, const Tensor& dh);
bool swiglu_adds_front(int64_t tokens, const Tensor& a,
                       const std::vector<AdapterSegment>& segments);
}  // namespace cuda

}  // namespace weft::ops
