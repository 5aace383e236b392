// Plans of cuDNN's fused attention: what a graph is built for, and how it runs. The graphs are made
// in attention_cudnn_plan.cc, the one file that includes cudnn-frontend; a build without cuDNN has
// attention_no_cudnn.cc in its place.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <memory>
#include <string>

#include "core/tensor/dtype.h"

namespace weft::ops::cuda::cudnn {

enum Operand : size_t {
  kQ,
  kK,
  kV,
  kO,
  kLse,
  kDout,
  kDq,
  kDk,
  kDv,
  kOperands
};  // kDout.. backward

// Strides of [batch, row, head, head_dim], in elements; those of head_dim are 1.
struct OperandStrides {
  int64_t batch = 0;  // from document to document; unused where ragged
  int64_t row = 0;
  int64_t head = 0;
  auto operator<=>(const OperandStrides&) const = default;
};

// All that a plan is built for. Queries, keys and values of a document are equally many.
struct PlanKey {
  bool backward = false;
  bool deterministic = true;  // of the backward: the same bits on every call
  // Documents may be shorter than `length` (some of no rows at all) and begin anywhere: their
  // lengths and starts are operands.
  bool ragged = false;
  DType dtype = DType::bf16;
  int64_t batch = 0;   // documents
  int64_t length = 0;  // rows of each
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  float scale = 0;
  std::array<OperandStrides, kOperands> strides;
  int gpu = 0;
  auto operator<=>(const PlanKey&) const = default;
};

// On the GPU. Where ragged: lengths [batch], and starts [batch + 1] of every operand that the plan
// has, in elements.
struct PlanOperands {
  std::array<void*, kOperands> data{};
  std::array<int32_t*, kOperands> starts{};
  int32_t* lengths = nullptr;
};

class Plan {
 public:
  virtual ~Plan() = default;
  virtual int64_t workspace_bytes() const = 0;
  // On the compute stream of the plan's GPU; a CUDA graph may capture it.
  virtual void execute(const PlanOperands& operands, void* workspace) const = 0;
};

struct PlanOrReason {
  std::unique_ptr<const Plan> plan;
  std::string why_not;  // where there is no plan
};

// Builds at the first call with a key (tens of milliseconds or more) and keeps what came of it for
// the life of the process. Thread-safe.
const PlanOrReason& plan_for(const PlanKey& key);

// Why no plan can be had at all: a build without cuDNN, or no library at run time; else empty.
const std::string& why_unavailable();
std::string version();  // of the library, such as "9.14"; where there is one

}  // namespace weft::ops::cuda::cudnn
