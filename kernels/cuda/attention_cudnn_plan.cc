// The one file that includes cudnn-frontend (a minute to compile). libcudnn is opened when it is
// first needed, so that the program starts without it.
#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include "kernels/cuda/attention_cudnn_plan.h"

#include <cuda_runtime.h>
#include <cudnn_frontend.h>
#include <dlfcn.h>
#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/tensor/device_memory.h"

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;  // cudnn-frontend looks its functions up here
}

namespace weft::ops::cuda::cudnn {
namespace {

namespace fe = cudnn_frontend;
using Attributes = fe::graph::Tensor_attributes;
using TensorPtr = std::shared_ptr<Attributes>;

constexpr size_t kOldest = 91200;  // older ones ignore the strides of lse
constexpr int kUidOfStarts = 100;
constexpr int kUidOfQLengths = 200;
constexpr int kUidOfKvLengths = 201;

// cuDNN's own state on a GPU, on which one thread at a time may call it.
struct Handle {
  explicit Handle(int gpu) {
    if (cudaSetDevice(gpu) != cudaSuccess ||
        fe::detail::create_handle(&value) != CUDNN_STATUS_SUCCESS)
      why_not = fmt::format("cuDNN does not start on GPU {}", gpu);
    else if (fe::detail::set_stream(value, static_cast<cudaStream_t>(device_memory::stream(gpu))) !=
             CUDNN_STATUS_SUCCESS)
      why_not = fmt::format("cuDNN takes no stream of GPU {}", gpu);
    int major = 0, minor = 0;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, gpu);
    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, gpu);
    sm_version = 10 * major + minor;
  }
  cudnnHandle_t value = nullptr;
  int sm_version = 0;
  std::string why_not;
  std::mutex mutex;
};

// They live as long as the process.
Handle& handle_of(int gpu) {
  static std::mutex mutex;
  static auto& handles = *new std::map<int, std::unique_ptr<Handle>>;
  const std::lock_guard lock(mutex);
  auto& handle = handles[gpu];
  if (!handle) handle = std::make_unique<Handle>(gpu);
  return *handle;
}

bool of_keys(size_t operand) {
  return operand == kK || operand == kV || operand == kDk || operand == kDv;
}

// A graph under construction.
class Builder {
 public:
  Builder(fe::graph::Graph& graph, const PlanKey& key) : graph_(graph), key_(key) {
    const auto type = key.dtype == DType::bf16 ? fe::DataType_t::BFLOAT16 : fe::DataType_t::HALF;
    graph.set_io_data_type(type)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    if (!key.ragged) return;
    q_lengths_ = indices(kUidOfQLengths, key.batch);
    kv_lengths_ = indices(kUidOfKvLengths, key.batch);
  }

  void forward() {
    auto options = fe::graph::SDPA_attributes().set_name("attention").set_generate_stats(true);
    mask(options);
    auto [o, lse] = graph_.sdpa(input(kQ), input(kK), input(kV), options);
    shape(*o, kO).set_output(true);
    shape(*lse, kLse).set_output(true);
  }

  void backward() {
    auto options = fe::graph::SDPA_backward_attributes()
                       .set_name("attention_backward")
                       .set_deterministic_algorithm(key_.deterministic);
    mask(options);
    auto [dq, dk, dv] = graph_.sdpa_backward(input(kQ), input(kK), input(kV), input(kO),
                                             input(kDout), input(kLse), options);
    shape(*dq, kDq).set_output(true);
    shape(*dk, kDk).set_output(true);
    shape(*dv, kDv).set_output(true);
  }

 private:
  template <class Options>
  void mask(Options& options) const {
    options.set_attn_scale(key_.scale)
        .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
        .set_diagonal_band_right_bound(0);
    if (key_.ragged)
      options.set_padding_mask(true).set_seq_len_q(q_lengths_).set_seq_len_kv(kv_lengths_);
  }

  TensorPtr indices(int64_t uid, int64_t count) const {
    return graph_.tensor(Attributes()
                             .set_name(fmt::format("indices{}", uid))
                             .set_uid(uid)
                             .set_dim({count, 1, 1, 1})
                             .set_stride({1, 1, 1, 1})
                             .set_data_type(fe::DataType_t::INT32));
  }

  Attributes& shape(Attributes& tensor, Operand operand) const {
    const OperandStrides& strides = key_.strides[operand];
    const int64_t heads = of_keys(operand) ? key_.num_kv_heads : key_.num_heads;
    tensor.set_uid(operand + 1)
        .set_dim({key_.batch, heads, key_.length, operand == kLse ? 1 : key_.head_dim})
        .set_stride({strides.batch, strides.head, strides.row, 1});
    if (operand == kLse) tensor.set_data_type(fe::DataType_t::FLOAT);
    if (key_.ragged)
      tensor.set_ragged_offset(
          indices(kUidOfStarts + static_cast<int64_t>(operand), key_.batch + 1));
    return tensor;
  }

  TensorPtr input(Operand operand) const {
    Attributes tensor;
    shape(tensor, operand).set_name(fmt::format("operand{}", static_cast<int>(operand)));
    return graph_.tensor(tensor);
  }

  fe::graph::Graph& graph_;
  const PlanKey& key_;
  TensorPtr q_lengths_, kv_lengths_;
};

class GraphPlan final : public Plan {
 public:
  GraphPlan(const PlanKey& key, Handle& handle) : key_(key), handle_(handle) {}

  // Empty: built.
  std::string build() {
    Builder builder(graph_, key_);
    // A plan outlives what is captured of it.
    graph_.set_sm_version(handle_.sm_version)
        .set_cuda_graph_retention(fe::CudaGraphRetention_t::NONE);
    key_.backward ? builder.backward() : builder.forward();
    fe::error_t status = graph_.build(handle_.value, {fe::HeurMode_t::A});
    if (status.is_bad()) return status.get_message();
    fe::error_t sized = graph_.get_workspace_size(workspace_bytes_);
    return sized.is_bad() ? sized.get_message() : "";
  }

  int64_t workspace_bytes() const override { return workspace_bytes_; }

  void execute(const PlanOperands& operands, void* workspace) const override {
    std::unordered_map<int64_t, void*> pointers;
    for (size_t i = 0; i < kOperands; ++i) {
      if (i > kLse && !key_.backward) break;
      pointers.emplace(static_cast<int64_t>(i) + 1, operands.data[i]);
      if (key_.ragged) pointers.emplace(kUidOfStarts + static_cast<int64_t>(i), operands.starts[i]);
    }
    if (key_.ragged) {
      pointers.emplace(kUidOfQLengths, operands.lengths);
      pointers.emplace(kUidOfKvLengths, operands.lengths);
    }
    const std::lock_guard lock(handle_.mutex);
    fe::error_t status = graph_.execute(handle_.value, pointers, workspace);
    if (status.is_bad())
      fail(ErrorKind::unavailable, "[attention{}] cuDNN {} fails on GPU {}: {}",
           key_.backward ? "_backward" : "", version(), key_.gpu, status.get_message());
  }

 private:
  const PlanKey key_;
  Handle& handle_;
  fe::graph::Graph graph_;
  int64_t workspace_bytes_ = 0;
};

// cuDNN's messages are traces of many lines.
std::string in_one_line(std::string message) {
  std::replace(message.begin(), message.end(), '\n', ' ');
  return message.substr(0, 300);
}

PlanOrReason build(const PlanKey& key) {
  try {
    Handle& handle = handle_of(key.gpu);
    if (!handle.why_not.empty()) return {nullptr, handle.why_not};
    const std::lock_guard lock(handle.mutex);
    auto plan = std::make_unique<GraphPlan>(key, handle);
    std::string why_not = plan->build();
    if (!why_not.empty()) return {nullptr, "cuDNN refuses it: " + in_one_line(why_not)};
    return {std::move(plan), ""};
  } catch (const std::runtime_error& e) {  // a function or library that is not there
    return {nullptr, fmt::format("cuDNN refuses it: {}", e.what())};
  }
}

// Opens the library; what is wrong with it, or empty.
std::string open_library() {
  fe::cudnn_dlhandle = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
  if (!fe::cudnn_dlhandle) {
    const char* why = dlerror();
    log::warn(
        "attention: no cuDNN here ({}): our own kernels are used, which are slower; install "
        "NVIDIA's package libcudnn9-cuda-13, or put its folder into LD_LIBRARY_PATH",
        why ? why : "libcudnn.so.9");
    return "no libcudnn.so.9 here";
  }
  if (fe::detail::get_backend_version() >= kOldest) return "";
  log::warn(
      "attention: cuDNN {} is too old (9.12 is needed): our own kernels are used, which are "
      "slower",
      version());
  return "cuDNN " + version() + " is too old";
}

}  // namespace

const std::string& why_unavailable() {
  static const std::string why = open_library();
  return why;
}

std::string version() {
  const size_t number = fe::detail::get_backend_version();
  return fmt::format("{}.{}", number / 10000, number / 100 % 100);
}

const PlanOrReason& plan_for(const PlanKey& key) {
  static std::mutex mutex;
  static auto& plans = *new std::map<PlanKey, PlanOrReason>;
  const std::lock_guard lock(mutex);
  const auto found = plans.find(key);
  if (found != plans.end()) return found->second;
  return plans.emplace(key, build(key)).first->second;
}

}  // namespace weft::ops::cuda::cudnn
