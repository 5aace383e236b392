#include "core/ops/swiglu_adapters.h"

#include <algorithm>

#include "kernels/cuda/adapter_launch.cuh"
#include "kernels/cuda/swiglu_adapters_backward.cuh"
#include "kernels/cuda/swiglu_hidden.cuh"

namespace weft::ops::cuda {
namespace {

constexpr int64_t kMostRanks = 32;      // more take too many registers
constexpr int64_t kFewestTokens = 128;  // of the forward: fewer are quick in parts

Tensor workspace(int64_t numel, Device device) {
  return Tensor::empty({numel}, DType::f32, device, MemoryTag::workspace);
}

bool takes_hidden(int64_t tokens, const Tensor& a) {
  constexpr int kMostBytes =
      std::max(gated_hidden::Sizes<16>::kBytes, gated_hidden::Sizes<kMostRanks>::kBytes);
  return a.dtype() != DType::f32 && tokens >= kFewestTokens &&
         adapter::are_chunks(a.dim(0), kMostRanks) && adapter::lies_in_chunks(a) &&
         adapter::has_room(a.device(), kMostBytes);
}

bool is_gate_or_up(const AdapterSegment& s, int64_t width) {
  return s.columns() == width && (s.column == 0 || s.column == width);
}

bool takes_segments(const std::vector<AdapterSegment>& segments, int64_t width) {
  return std::all_of(segments.begin(), segments.end(), [&](const AdapterSegment& s) {
    return is_gate_or_up(s, width) && adapter::are_chunks(s.ranks(), kMostRanks) &&
           adapter::lies_in_chunks(s);
  });
}
// Their part is added to gate and up on the way.
bool adds_segments(const std::vector<AdapterSegment>& segments, int64_t width) {
  return takes_segments(segments, width) &&
         std::all_of(segments.begin(), segments.end(),
                     [](const AdapterSegment& s) { return s.db_scale == 1; });
}

bool takes_front(const SwigluFront& front, int64_t width) {
  return front.segments.empty() ||
         (adapter::lies_in_chunks(front.h_TR) && adds_segments(front.segments, width));
}
bool takes_front(const SwigluAdaptersBackwardArgs& args, const Tensor& dh) {
  const int64_t width = args.dy_TF.dim(1);
  return args.segments.empty() ||
         (adapter::lies_in_chunks(args.h_TR) && adapter::lies_in_chunks(dh) &&
          (args.adds_front ? adds_segments : takes_segments)(args.segments, width));
}

bool takes_behind(const Tensor& dh) {
  return !dh.defined() ||
         (adapter::are_chunks(dh.dim(1), kMostRanks) && adapter::lies_in_chunks(dh));
}

bool has_room_for_backward(Device device) {
  constexpr int kMostBytes = std::max(gated::Sizes<16>::kBytes, gated::Sizes<kMostRanks>::kBytes);
  return adapter::has_room(device, kMostBytes);
}
bool takes_backward(const SwigluAdaptersBackwardArgs& args, const Tensor& dh) {
  return args.dy_TF.dtype() != DType::f32 && adapter::lies_in_chunks(args.dy_TF) &&
         adapter::lies_in_chunks(args.gate_up_T2F) && takes_front(args, dh) &&
         takes_behind(args.dh_behind_TR) && has_room_for_backward(args.dy_TF.device());
}

void describe_front(gated::Front (&front)[2], const Tensor& h,
                    const std::vector<AdapterSegment>& segments) {
  for (const AdapterSegment& s : segments)
    front[s.column == 0 ? 0 : 1] = {.h = adapter::element(h, s.rank),
                                    .b = s.b_NR.raw(),
                                    .dh_partials = nullptr,
                                    .db_partials = nullptr,
                                    .ranks = static_cast<int>(s.ranks())};
}

// Sizes and operands, of which the ranks tell what is there.
gated::Params params_of(const SwigluAdaptersBackwardArgs& args) {
  const Tensor& behind = args.dh_behind_TR;
  gated::Params p{.dy = args.dy_TF.raw(),
                  .gate_up = args.gate_up_T2F.raw(),
                  .tokens = args.dy_TF.dim(0),
                  .width = args.dy_TF.dim(1)};
  describe_front(p.front, args.h_TR, args.segments);
  if (!args.segments.empty()) p.h_stride = args.h_TR.dim(1);
  p.adds_front = args.adds_front;
  if (!behind.defined()) return p;
  p.behind = {.dh = behind.raw(), .da_partials = nullptr, .ranks = static_cast<int>(behind.dim(1))};
  p.dh_stride = behind.dim(1);
  return p;
}

adapter::Sums sums_of(const gated::Params& p, const SwigluAdaptersBackwardArgs& args,
                      const Tensor& dh) {
  adapter::Sums sums;
  for (const AdapterSegment& s : args.segments) {
    const gated::Front& front = p.front[s.column == 0 ? 0 : 1];
    sums.add({.partials = front.dh_partials,
              .to = adapter::element(dh, s.rank),
              .rows = p.tokens,
              .row_stride = p.h_stride,
              .count = p.slabs,
              .ranks = front.ranks,
              .scale = s.dh_scale});
    sums.add({.partials = front.db_partials,
              .to = s.db_NR.raw(),
              .rows = p.width,
              .row_stride = front.ranks,
              .count = p.token_slabs,
              .ranks = front.ranks,
              .scale = s.db_scale,
              .adds = true,
              .is_f32 = s.db_NR.dtype() == DType::f32});
  }
  if (p.behind.ranks > 0)
    sums.add({.partials = p.behind.da_partials,
              .to = args.da_RF.raw(),
              .rows = p.width,
              .rank_stride = p.width,
              .count = p.token_slabs,
              .ranks = p.behind.ranks,
              .adds = true,
              .is_f32 = args.da_RF.dtype() == DType::f32});
  return sums;
}

template <class T, int kRanks>
void run_backward(gated::Params& p, const SwigluAdaptersBackwardArgs& args, const Tensor& dh) {
  constexpr int kBytes = gated::Sizes<kRanks>::kBytes;
  const Device device = args.dy_TF.device();
  const cudaStream_t stream = stream_on(device);
  gated::cut(p, gated::Sizes<kRanks>::kSubs);
  const Tensor partials = workspace(gated::partials_of(p), device);
  gated::place_partials(p, pointer<float>(partials));
  const auto kernel = gated::swiglu_adapters_kernel<T, kRanks>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
        "swiglu_adapters_backward");
  launch_behind(kernel, static_cast<unsigned>(p.slabs * p.token_slabs), kThreads, kBytes, stream,
                p);
  check(cudaGetLastError(), "swiglu_adapters_backward");
  adapter::add_sums<T>(sums_of(p, args, dh), stream);
}

}  // namespace

bool swiglu_adds_front(int64_t tokens, const Tensor& a,
                       const std::vector<AdapterSegment>& segments) {
  return takes_hidden(tokens, a) && adds_segments(segments, a.dim(1)) &&
         has_room_for_backward(a.device());
}

void swiglu_hidden(const Tensor& gate_up, const Tensor& a, float scale, const SwigluFront& front,
                   const SwigluHidden& result) {
  if (!takes_hidden(gate_up.dim(0), a) || !takes_front(front, a.dim(1)) ||
      !adapter::lies_in_chunks(gate_up) || !adapter::lies_in_chunks(result.y_TF) ||
      !adapter::lies_in_chunks(result.h_TR))
    return swiglu_hidden_by_parts(gate_up, a, scale, front, result);
  gated_hidden::Params p{.gate_up = gate_up.raw(),
                         .a = a.raw(),
                         .y = result.y_TF.raw(),
                         .tokens = gate_up.dim(0),
                         .width = a.dim(1),
                         .ranks = static_cast<int>(a.dim(0))};
  describe_front(p.front, front.h_TR, front.segments);
  if (!front.segments.empty()) p.h_stride = front.h_TR.dim(1);
  gated_hidden::cut(p);
  const Tensor partials = workspace(gated_hidden::partials_of(p), a.device());
  p.partials = pointer<float>(partials);
  adapter::Sums sums;
  sums.add({.partials = p.partials,
            .to = result.h_TR.raw(),
            .rows = p.tokens,
            .row_stride = p.ranks,
            .count = gated_hidden::kParts * p.slabs,
            .ranks = p.ranks,
            .scale = scale});
  const cudaStream_t stream = stream_on(a.device());
  const dim3 grid(static_cast<unsigned>(gated_hidden::blocks_across(p)),
                  static_cast<unsigned>(p.slabs));
  const int ranks = std::max({p.ranks, p.front[0].ranks, p.front[1].ranks});
  adapter::dispatch_ranks<16, 32>(a.dtype(), ranks, [&](auto type, auto most_ranks) {
    using T = decltype(type);
    constexpr int kBytes = gated_hidden::Sizes<most_ranks()>::kBytes;
    const auto kernel = gated_hidden::swiglu_hidden_kernel<T, most_ranks()>;
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
          "swiglu_hidden");
    launch_behind(kernel, grid, gated_hidden::kBlockThreads, kBytes, stream, p);
    check(cudaGetLastError(), "swiglu_hidden");
    adapter::add_sums<T>(sums, stream);
  });
}

void swiglu_adapters_backward(const SwigluAdaptersBackwardArgs& args, const Tensor& dh) {
  if (!takes_backward(args, dh)) return swiglu_adapters_backward_by_parts(args, dh);
  gated::Params p = params_of(args);
  const int ranks = std::max({p.front[0].ranks, p.front[1].ranks, p.behind.ranks});
  adapter::dispatch_ranks<16, 32>(args.dy_TF.dtype(), ranks, [&](auto type, auto most_ranks) {
    run_backward<decltype(type), most_ranks()>(p, args, dh);
  });
}

}  // namespace weft::ops::cuda
