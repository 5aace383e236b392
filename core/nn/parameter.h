// The blueprint: what a model is made of before any of it is in memory.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor/tensor.h"

namespace weft::nn {

// Axes of the mesh, slowest first (DESIGN: mesh).
enum class Axis { pipeline, data, context, tensor, expert };

// How the global tensor is cut along the tensor and expert axes: data that tools read, set by the
// family.
struct Partition {
  int dim = -1;              // the dim that is cut; -1: replicated
  Axis axis = Axis::tensor;  // the axis it is cut along
  int64_t granule = 1;       // only whole multiples move together (a head's rows)
  int64_t replicas = 1;      // ranks that hold the same part (kv heads fewer than ranks)
  int64_t padding = 0;       // rows added at the end in memory, never seen in a file
};

// Values of a parameter that no file gives.
struct Init {
  enum class Kind { zeros, ones, normal, uniform };
  Kind kind = Kind::zeros;
  float scale = 0;  // normal: standard deviation; uniform: in [-scale, scale)
};

// A named tensor of the model. `value` and `grad` are views of the unit's flat buffers; they are
// undefined until the unit is materialised and while it is released. Gradients accumulate (+=).
struct Parameter {
  std::string name;  // its Hugging Face name, the only one
  Shape shape;       // global
  DType dtype = DType::f32;
  bool trainable = true;
  bool decay = true;  // weight decay applies (not on norms and biases)
  Init init;
  Partition partition;
  // What only loaded weights can tell (DoRA's magnitude): called after load, before the first step,
  // when the checkpoint or file that was loaded has no value of that name.
  std::function<void(Parameter&)> init_from_loaded;

  Tensor value;
  Tensor grad;  // f32 or the value's dtype; undefined when frozen
  // A matrix whose gradient is a product (set by the family). At a step's start nobody writes
  // zeros: its gradient is `stale`, and the first product assigns (take_stale).
  bool grad_is_product = false;
  bool stale = false;

  // Views of the value and gradient as a matrix [out, in].
  bool wants_grad() const { return trainable && grad.defined(); }
};

using ParameterPtr = std::shared_ptr<Parameter>;

// Whether products into the gradients of these parameters assign: all of them are stale. Else those
// that are become zero, and products add. None is stale on return.
bool take_stale(const std::vector<ParameterPtr>& parameters);

// What is gathered, used and released together: a block, the embedding, the head. Parameters are in
// the order of the flat buffers; those of one projection group stand next to each other, so that q,
// k and v are one matrix in memory.
struct Unit {
  std::string name;
  std::vector<ParameterPtr> parameters;
};

}  // namespace weft::nn
