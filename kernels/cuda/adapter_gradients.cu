#include "kernels/cuda/adapter_gradients.cuh"

#include <algorithm>

#include "kernels/cuda/adapter_launch.cuh"

namespace weft::ops::cuda {
namespace {

constexpr int64_t kMostRanks = 32;  // more are bound by shared memory

constexpr int kMostBytes = std::max(adapter::Sizes<16>::kBytes, adapter::Sizes<32>::kBytes);

// The rule: what the one pass takes.
bool takes(const AdapterGradientsArgs& args, const AdapterSegment& segment) {
  const auto all = {args.dy_TN, args.h_TR, args.dh_TR};
  return args.dy_TN.dtype() != DType::f32 && segment.columns() > 0 &&
         adapter::are_chunks(segment.ranks(), kMostRanks) &&
         std::all_of(all.begin(), all.end(),
                     [](const Tensor& t) { return adapter::lies_in_chunks(t); }) &&
         adapter::lies_in_chunks(segment) && adapter::has_room(args.dy_TN.device(), kMostBytes);
}

adapter::Segment segment_of(const AdapterGradientsArgs& args, const AdapterSegment& segment) {
  return {.dy = adapter::element(args.dy_TN, segment.column),
          .h = adapter::element(args.h_TR, segment.rank),
          .b = segment.b_NR.raw(),
          .dh = adapter::element(args.dh_TR, segment.rank),
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
  adapter::dispatch_ranks<16, 32>(args.dy_TN.dtype(), ranks, [&](auto type, auto most_ranks) {
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
