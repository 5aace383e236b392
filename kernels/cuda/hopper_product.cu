#include "kernels/cuda/hopper_product.h"

#include <algorithm>
#include <array>

#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/hopper_product.cuh"

namespace weft::ops::cuda::hopper {
namespace {

constexpr int64_t kFewestRows = 256, kFewestColumns = 128;
// Deeper products are better left to the library, with the thin ones apart: its larger tiles take
// half as much out of the L2 cache. Under load, where a chip of 700 W is bound by them, an H200
// then does 8192 x 4096 x 28672 at 686 instead of 648 TFLOP/s, worth more than two passes over c.
constexpr int64_t kMostDepth = 8192;

struct Gpu {
  bool is_hopper = false;
  int multiprocessors = 0;
};
const Gpu& gpu_of(Device device) {
  static const std::array<Gpu, 64> gpus = [] {
    std::array<Gpu, 64> all{};
    for (int i = 0; i < std::min(device_memory::count(), 64); ++i) {
      int major = 0, minor = 0;
      check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, i), "matmul");
      check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, i), "matmul");
      check(cudaDeviceGetAttribute(&all[i].multiprocessors, cudaDevAttrMultiProcessorCount, i),
            "matmul");
      all[i].is_hopper = major == 9 && minor == 0;
    }
    return all;
  }();
  return gpus.at(static_cast<size_t>(device.index));
}

decltype(&cuTensorMapEncodeTiled) encoder() {
  static const auto found = [] {
    void* address = nullptr;
    cudaDriverEntryPointQueryResult result{};
    const cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &address,
                                                                12000, cudaEnableDefault, &result);
    return status == cudaSuccess && result == cudaDriverEntryPointSuccess
               ? reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(address)
               : nullptr;
  }();
  return found;
}

// A matrix whose lines are contiguous: along its rows, or along its columns where it is transposed.
bool lies_in_whole_16_bytes(const Matrix& m) {
  const int64_t distance = m.col_stride == 1 ? m.row_stride : m.col_stride;
  return reinterpret_cast<uintptr_t>(m.data) % 16 == 0 && distance % 8 == 0 && distance > 0;
}

bool has_columns_of_b(const Matrix& b) {
  return b.col_stride == 1;
}

// Copies of boxes of so many lines by so many elements along the lines; the rest of a box that goes
// past the matrix is zeros, or is not written.
CUtensorMap map_of(const Matrix& m, int box_lines, int box_length) {
  const bool by_rows = m.col_stride == 1;
  const auto lines = static_cast<cuuint64_t>(by_rows ? m.rows : m.cols);
  const auto length = static_cast<cuuint64_t>(by_rows ? m.cols : m.rows);
  const cuuint64_t sizes[2] = {length, lines};
  const cuuint64_t distance[1] = {static_cast<cuuint64_t>(by_rows ? m.row_stride : m.col_stride) *
                                  2};
  const cuuint32_t box[2] = {static_cast<cuuint32_t>(box_length),
                             static_cast<cuuint32_t>(box_lines)};
  const cuuint32_t steps[2] = {1, 1};
  CUtensorMap map;
  const CUresult status = encoder()(
      &map,
      m.dtype == DType::f16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2,
      m.data, sizes, distance, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  CHECK(status == CUDA_SUCCESS, "[matmul] the driver refuses to copy boxes of [{}, {}]: {}", m.rows,
        m.cols, static_cast<int>(status));
  return map;
}

// The maps and sizes of a product whose tiles are cut so.
template <class T, class Sizes, bool kColumnsOfB>
class Launch {
 public:
  Launch(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options) {
    map_a(maps_.a, a);
    maps_.b = map_of_b(b);
    maps_.c = map_of(c, Sizes::chunk, kHalf);
    args_.rows = static_cast<int>(c.rows);
    args_.columns = static_cast<int>(c.cols);
    args_.steps = static_cast<int>(divide_up(a.cols, kDepth));
    for (const ThinProduct& thin : options.thin)
      if (thin.a.cols > 0 && thin.b.cols > 0) add_thin(thin);
    const Matrix* addend = options.accumulate ? &c : options.addend;
    args_.has_addend = addend != nullptr;
    if (addend) maps_.addend = map_of(*addend, Sizes::chunk, kHalf);
    if (options.bias_N) args_.bias = static_cast<const T*>(options.bias_N->raw());
  }

  void run(Device device) const {
    const auto kernel = product_kernel<T, Sizes, kColumnsOfB>;
    const cudaStream_t stream = stream_on(device);
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               Sizes::shared_bytes),
          "matmul");
    const int blocks = gpu_of(device).multiprocessors / 2 * 2;
    launch_behind(kernel, static_cast<unsigned>(blocks), kThreadsOfProduct, Sizes::shared_bytes,
                  stream, maps_, args_);
    check(cudaGetLastError(), "matmul");
  }

 private:
  static void map_a(CUtensorMap (&maps)[2], const Matrix& a) {
    maps[0] = map_of(a, Sizes::first_rows, kDepth);
    maps[1] = map_of(a, Sizes::other_rows, kDepth);
  }
  static CUtensorMap map_of_b(const Matrix& b) {
    return kColumnsOfB ? map_of(b, kDepth, kHalf) : map_of(b, kColumns, kDepth);
  }
  void add_thin(const ThinProduct& thin) {
    const int i = args_.thins++;
    map_a(maps_.thin_a[i], thin.a);
    maps_.thin_b[i] = map_of_b(thin.b);
    const auto steps = static_cast<int>(divide_up(thin.a.cols, kDepth));
    args_.thin[i] = {.begin = static_cast<int>(thin.column),
                     .end = static_cast<int>(thin.column + thin.b.cols),
                     .steps = steps,
                     .last_depth = static_cast<int>(thin.a.cols) - (steps - 1) * kDepth};
  }

  ProductMaps maps_{};
  ProductArgs<T> args_{};
};

// What the busiest pair of blocks multiplies, in columns of a tile's tensor products.
int64_t longest_turn(const Matrix& c, int rows) {
  const int64_t tiles = divide_up(c.rows, rows) * divide_up(c.cols, 2 * kColumns);
  return divide_up(tiles, gpu_of(c.device).multiprocessors / 2) * rows;
}

template <class T>
void launch_for(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options) {
  using Tall = TileSizes<192, 48>;
  using Middle = TileSizes<168, 56>;
  using Short = TileSizes<160, 40>;
  const int64_t tall = longest_turn(c, Tall::rows), middle = longest_turn(c, Middle::rows),
                low = longest_turn(c, Short::rows);
  const auto run = [&](auto sizes) {
    using Sizes = decltype(sizes);
    if (has_columns_of_b(b))
      Launch<T, Sizes, true>(a, b, c, options).run(c.device);
    else
      Launch<T, Sizes, false>(a, b, c, options).run(c.device);
  };
  if (tall <= middle && tall <= low)
    run(Tall());
  else if (middle <= low)
    run(Middle());
  else
    run(Short());
}

bool takes_added(const Matrix& c, const MatmulOptions& options) {
  if (options.addend && !lies_in_whole_16_bytes(*options.addend)) return false;
  if (!options.bias_N) return true;
  const Tensor& bias = *options.bias_N;
  return !options.addend && !options.accumulate && bias.dtype() == c.dtype;
}

bool takes_thin(const Matrix& b, const ThinProduct& thin) {
  return thin.alpha == 1.0f && thin.a.col_stride == 1 && lies_in_whole_16_bytes(thin.a) &&
         lies_in_whole_16_bytes(thin.b) && has_columns_of_b(thin.b) == has_columns_of_b(b);
}

}  // namespace

bool takes(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options) {
  constexpr int64_t kMost = INT32_MAX / 2;
  const auto fits = [](const Matrix& m) { return m.rows < kMost && m.cols < kMost; };
  return (a.dtype == DType::bf16 || a.dtype == DType::f16) && c.dtype == a.dtype &&
         options.alpha == 1.0f && options.thin.size() <= kMostThin && a.col_stride == 1 &&
         a.cols > 0 && a.cols <= kMostDepth && c.rows >= kFewestRows && c.cols >= kFewestColumns &&
         c.cols % 8 == 0 && fits(a) && fits(b) && fits(c) && lies_in_whole_16_bytes(a) &&
         lies_in_whole_16_bytes(b) && lies_in_whole_16_bytes(c) && takes_added(c, options) &&
         std::all_of(options.thin.begin(), options.thin.end(),
                     [&](const ThinProduct& thin) { return takes_thin(b, thin); }) &&
         gpu_of(c.device).is_hopper && encoder() != nullptr;
}

void multiply(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options) {
  if (a.dtype == DType::f16)
    launch_for<__half>(a, b, c, options);
  else
    launch_for<__nv_bfloat16>(a, b, c, options);
}

}  // namespace weft::ops::cuda::hopper
