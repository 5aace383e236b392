#include "kernels/cuda/adapter_input_gradient.cuh"

#include "core/ops/adapter_input_gradient.h"
#include "kernels/cuda/adapter_launch.cuh"

namespace weft::ops::cuda {
namespace {

constexpr int64_t kMostRanks = 64;  // more are bound by shared memory

// The rule: what the one pass takes.
bool takes(const AdapterInputGradientArgs& args) {
  const Tensor& x = args.input();
  const Matrix& dh = args.dh_TR;
  return x.dtype() != DType::f32 && adapter::are_chunks(dh.cols, kMostRanks) &&
         reinterpret_cast<uintptr_t>(dh.data) % 16 == 0 && dh.row_stride % 8 == 0 &&
         adapter::lies_in_chunks(x) &&
         adapter::has_room(x.device(), adapter_input::Sizes<kMostRanks>::kBytes);
}

adapter_input::Params params_of(const AdapterInputGradientArgs& args) {
  const bool is_norm = !args.x_TK.defined();
  const Tensor& x = args.input();
  return {.x = x.raw(),
          .dh = args.dh_TR.data,
          .rstd = is_norm ? pointer<const float>(args.normed.rstd_T) : nullptr,
          .weight = is_norm ? args.normed.weight_K.raw() : nullptr,
          .tokens = x.dim(0),
          .width = x.dim(1),
          .dh_stride = args.dh_TR.row_stride,
          .ranks = static_cast<int>(args.dh_TR.cols)};
}

template <class T, class W, int kRanks, bool kNorm>
void launch(const adapter_input::Params& p, cudaStream_t stream) {
  constexpr int kBytes = adapter_input::Sizes<kRanks>::kBytes;
  const auto kernel = adapter_input::adapter_input_kernel<T, W, kRanks, kNorm>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
        "adapter_input_gradient");
  const dim3 grid(static_cast<unsigned>(divide_up(p.width, adapter_input::kTile)),
                  static_cast<unsigned>(p.slabs));
  launch_behind(kernel, grid, adapter_input::kBlockThreads, kBytes, stream, p);
  check(cudaGetLastError(), "adapter_input_gradient");
}

}  // namespace

void adapter_input_gradient(const AdapterInputGradientArgs& args) {
  if (!takes(args)) return adapter_input_gradient_by_product(args);
  const Tensor& da = args.da_RK;
  const cudaStream_t stream = stream_on(da.device());
  adapter_input::Params p = params_of(args);
  adapter_input::cut(p);
  const Tensor partials =
      Tensor::empty({adapter_input::partials_of(p)}, DType::f32, da.device(), MemoryTag::workspace);
  p.partials = pointer<float>(partials);
  adapter::Sums sums;
  sums.add({.partials = p.partials,
            .to = da.raw(),
            .rows = p.width,
            .rank_stride = p.width,
            .count = p.slabs,
            .ranks = p.ranks,
            .adds = true,
            .is_f32 = da.dtype() == DType::f32});
  const bool f32_weight = p.rstd && args.normed.weight_K.dtype() == DType::f32;
  adapter::dispatch_ranks<16, 32, 48, 64>(args.dh_TR.dtype, p.ranks,
                                          [&](auto type, auto most_ranks) {
                                            using T = decltype(type);
                                            if (!p.rstd)
                                              launch<T, T, most_ranks(), false>(p, stream);
                                            else if (f32_weight)
                                              launch<T, float, most_ranks(), true>(p, stream);
                                            else
                                              launch<T, T, most_ranks(), true>(p, stream);
                                            adapter::add_sums<T>(sums, stream);
                                          });
}

}  // namespace weft::ops::cuda
