#include "kernels/cuda/adapter_gradients.cuh"

#include <vector>

#include "core/ops/adapter_gradients.h"

namespace weft::ops::cuda {
namespace {

constexpr int64_t kMostRanks = 32;  // more are bound by shared memory

// Calls f(T(), std::integral_constant<int, kRanks>()) for bf16 or f16 and the smallest kRanks.
template <class F>
void dispatch_ranks(DType dtype, int64_t ranks, F&& f) {
  const auto with_ranks = [&](auto type) {
    if (ranks <= 16) return f(type, std::integral_constant<int, 16>());
    return f(type, std::integral_constant<int, 32>());
  };
  dtype == DType::bf16 ? with_ranks(__nv_bfloat16()) : with_ranks(__half());
}

bool is_aligned(const Tensor& t) {
  return reinterpret_cast<uintptr_t>(t.raw()) % 16 == 0;
}

// Whether the GPU has what the kernel needs: tensor cores (8.0) and shared memory (9.0).
bool has_room(Device device) {
  int shared_bytes = 0;
  check(
      cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device.index),
      "adapter_gradients");
  constexpr int kMostBytes = std::max(adapter::Sizes<16>::kBytes, adapter::Sizes<32>::kBytes);
  return device_memory::has_bf16(device.index) && shared_bytes >= kMostBytes;
}

// The rule: what the one pass takes. All chunks of 8 elements lie whole, at multiples of 16 bytes.
bool takes(const AdapterGradientsArgs& args, const AdapterSegment& segment) {
  const int64_t ranks = segment.ranks(), columns = segment.columns();
  const bool whole_chunks =
      (args.dy_TN.dim(1) | args.h_TR.dim(1) | segment.column | segment.rank | columns | ranks) %
          8 ==
      0;
  return args.dy_TN.dtype() != DType::f32 && ranks > 0 && ranks <= kMostRanks && columns > 0 &&
         whole_chunks && is_aligned(args.dy_TN) && is_aligned(args.h_TR) &&
         is_aligned(args.dh_TR) && is_aligned(segment.b_NR) && is_aligned(segment.db_NR) &&
         has_room(args.dy_TN.device());
}

void* element(const Tensor& t, int64_t index) {
  return static_cast<char*>(t.raw()) + index * static_cast<int64_t>(size_of(t.dtype()));
}

adapter::Segment segment_of(const AdapterGradientsArgs& args, const AdapterSegment& segment) {
  return {.dy = element(args.dy_TN, segment.column),
          .h = element(args.h_TR, segment.rank),
          .b = segment.b_NR.raw(),
          .dh = element(args.dh_TR, segment.rank),
          .db = segment.db_NR.raw(),
          .columns = segment.columns(),
          .ranks = static_cast<int>(segment.ranks()),
          .dh_scale = segment.dh_scale,
          .db_scale = segment.db_scale,
          .db_is_f32 = segment.db_NR.dtype() == DType::f32};
}

// params has the segments.
void run(const AdapterGradientsArgs& args, adapter::Params& params) {
  const Device device = args.dy_TN.device();
  params.tokens = args.dy_TN.dim(0);
  params.dy_stride = args.dy_TN.dim(1);
  params.h_stride = args.h_TR.dim(1);
  int ranks = 0;
  for (int i = 0; i < params.num_segments; ++i) ranks = std::max(ranks, params.segments[i].ranks);
  const cudaStream_t stream = stream_on(device);
  dispatch_ranks(args.dy_TN.dtype(), ranks, [&](auto type, auto most_ranks) {
    adapter::cut(params, adapter::Sizes<most_ranks()>::kSubs);
    const Tensor partials =
        Tensor::empty({adapter::partials_of(params)}, DType::f32, device, MemoryTag::workspace);
    adapter::place_partials(params, pointer<float>(partials));
    adapter::launch<decltype(type), most_ranks()>(params, stream);
  });
}

}  // namespace

void adapter_gradients(const AdapterGradientsArgs& args) {
  adapter::Params params{};
  for (const AdapterSegment& segment : args.segments) {
    if (!takes(args, segment)) {
      adapter_gradients_by_products(args, segment);
      continue;
    }
    params.segments[params.num_segments++] = segment_of(args, segment);
    if (params.num_segments < adapter::kMostSegments) continue;
    run(args, params);
    params.num_segments = 0;
  }
  if (params.num_segments > 0) run(args, params);
}

}  // namespace weft::ops::cuda
