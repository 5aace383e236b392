// Projection: the product of one input with one or more named weights (q, k, v; gate, up; o alone).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/nn/parameter.h"
#include "core/nn/step.h"
#include "core/nn/tape.h"
#include "core/ops/adapter_gradients.h"
#include "core/ops/dropout.h"
#include "core/ops/matmul.h"

namespace weft::nn {

// A low-rank update of a weight: W + scale * B A (Hu et al. 2021, sec. 4.1). With a magnitude it is
// DoRA (Liu et al. 2024, eq. 5): rows of W + scale * B A are scaled to the length `magnitude`; the
// norm is a constant in the backward (sec. 4.3). Dropout acts on the adapter's path only.
struct Adapter {
  ParameterPtr a;          // [R, K]
  ParameterPtr b;          // [N, R]
  ParameterPtr magnitude;  // [N], null: plain LoRA
  float scale = 1;
};

struct ProjectionMember {
  std::string name;     // module path: "model.layers.3.self_attn.q_proj"
  ParameterPtr weight;  // [N, K], the module's "weight"
  ParameterPtr bias;    // [N], null: none
  std::optional<Adapter> adapter;
  int64_t out_features() const { return weight->shape[0]; }
};

// What may come with forward's x.
struct ProjectionExtras {
  Tensor residual_TN = {};  // added to the output of an only member
  Tensor hidden_TR = {};    // the adapters', which the owner of x has made: then x is not kept
  Tensor* left_out_TR = nullptr;  // = h, whose part the owner of y adds (REQUIRES lends_output())
};

// A backward under way: what forward kept, and what the owners of dy and x do of it.
struct ProjectionBackward {
  Tape::Kept x;
  Tensor h_TR;                   // of the adapters
  std::vector<Tensor> unscaled;  // DoRA's, the last member's first
  bool wants_dx = true;          // false: dx is undefined
  bool input_is_lent = false;    // the owner of x makes the gradients of the As, of dh_TR
  Tensor dh_TR;  // [T, sum of R]: where the owner of dy has made it with the gradients of the Bs,
                 // given; else backward's (=)
};

// [N] f32: the lengths of the rows of W + scale * B A, computed in f32 a few rows at a time.
Tensor adapted_row_norms(const ProjectionMember& member);

// Passes rewrite the members; the layer that owns the projection does not notice.
class Projection {
 public:
  Projection(int64_t in_features, std::vector<ProjectionMember> members);

  // x[T,K] to y[T, sum of N], the members' outputs side by side.
  Tensor forward(const Tensor& x_TK, const Step& step, Tape& tape,
                 const ProjectionExtras& extras = {}) const;
  // dy[T, sum of N] to dx[T,K] (=); weight gradients += through step.weight_grads, those of the
  // adapters' Bs at once. wants_dx = false: dx, which nobody wants, is undefined.
  Tensor backward(const Tensor& dy_TN, const Step& step, Tape& tape, bool wants_dx = true) const;

  // Thin products of plain adapters can be made by who has x or dy in hand anyway. Of x: forward is
  // given hidden_TR = hidden_scale() * x A^T, and adapters_a_grad() += dh^T x once backward has
  // made dh. Of dy: backward is given dh_TR, and the gradients of the Bs are made with it, as by
  // ops::adapter_gradients.
  bool lends_input(const Step& step) const;
  bool lends_output() const;
  Tensor adapters_a() const;       // [sum of R, K]
  Tensor adapters_a_grad() const;  // the same of the gradients
  float hidden_scale() const;
  std::vector<ops::AdapterSegment> adapter_segments() const;
  // backward in two steps: pops what forward pushed, then the rest.
  ProjectionBackward begin_backward(Tape& tape, bool input_is_lent = false) const;
  Tensor backward(const Tensor& dy_TN, const Step& step, ProjectionBackward& state) const;

  std::vector<ProjectionMember>& members() { return members_; }
  const std::vector<ProjectionMember>& members() const { return members_; }
  int64_t in_features() const { return in_features_; }
  int64_t out_features() const;

  // Parameters in the order of the flat buffers: weights together, biases, As, Bs, magnitudes.
  void collect(std::vector<ParameterPtr>& parameters) const;

  double dropout = 0;  // of the input on the adapters' path: one mask for all of them

 private:
  std::vector<Tensor> weights() const;
  bool trains_weights() const;
  void keep_input(const Tensor& x, const Step& step, Tape& tape) const;
  bool drops(const Step& step) const { return dropout > 0 && step.mode == Mode::train; }
  bool is_adapted() const;
  bool has_dora() const;
  std::vector<Tensor> adapters_as() const;
  std::vector<Tensor> adapters_a_grads() const;
  Tensor stacked_biases() const;
  void add_biases(const Tensor& y) const;
  ops::DropoutArgs dropout_of(const Tensor& x, const Step& step) const;
  Tensor adapter_input(const Tensor& x, const Step& step) const;
  Tensor adapters_hidden(const Tensor& x, const Step& step) const;
  std::vector<ops::ThinProduct> adapters_part(const Tensor& h_TR, int64_t begin, int64_t end) const;
  std::vector<ops::ThinProduct> adapters_part_of_dx(const Tensor& dh_TR) const;
  void add_scaled_adapters(const Tensor& h_TR, const Tensor& y, Tape& tape) const;
  void pop_unscaled(Tape& tape, std::vector<Tensor>& unscaled) const;
  Tensor input_backward(const Tensor& dy, const Step& step, const Tensor& dh_TR) const;
  void bias_backward(const Tensor& dy, const Step& step) const;
  Tensor dora_backward(const Tensor& dy, const std::vector<Tensor>& unscaled) const;
  void weights_backward(const Tensor& dy, const Tensor& x, const Step& step) const;
  void adapters_a_backward(const ProjectionBackward& state, const Step& step) const;

  int64_t in_features_;
  std::vector<ProjectionMember> members_;
};

}  // namespace weft::nn
