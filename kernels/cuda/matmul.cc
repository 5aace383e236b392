// Matrix products by cuBLASLt. It thinks in columns: our row-major c[M,N] is its c^T[N,M], so that
// b^T comes first and a^T second.
#include "core/ops/matmul.h"

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <memory>
#include <mutex>

#include "core/tensor/device_memory.h"
#include "kernels/cuda/matvec.h"

namespace weft::ops::cuda {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;

void check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    fail(ErrorKind::unavailable, "[matmul] cuBLASLt cannot {}: {}", what,
         cublasLtGetStatusString(status));
}

// All that an algorithm is chosen by.
struct ProductKey {
  int64_t m, n, k;  // of our c = a b
  int64_t lda, ldb, ldc;
  bool a_transposed, b_transposed;  // their memory, against row-major
  DType in, out;
  bool accumulate;
  int alignment;  // bytes, of all three pointers: a power of two, at most 256
  int gpu;
  auto operator<=>(const ProductKey&) const = default;
};

cudaDataType_t type_of(DType dtype) {
  return dtype == DType::f32 ? CUDA_R_32F : dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_16F;
}

template <class T, cublasStatus_t (*Destroy)(T)>
class Owned {
 public:
  Owned() = default;
  ~Owned() {
    if (value) Destroy(value);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  T value = nullptr;
};
using Operation = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

struct Product {
  Operation operation;
  Layout first, second, out;  // b^T, a^T, c^T
  cublasLtMatmulAlgo_t algorithm{};
  size_t workspace_bytes = 0;
};

cublasLtHandle_t handle() {
  static const cublasLtHandle_t made = [] {
    cublasLtHandle_t h = nullptr;
    check(cublasLtCreate(&h), "start");
    return h;
  }();
  return made;
}

void make_layout(Layout& layout, DType dtype, int64_t rows, int64_t cols, int64_t ld,
                 bool transposed) {
  check(cublasLtMatrixLayoutCreate(&layout.value, type_of(dtype),
                                   static_cast<uint64_t>(transposed ? cols : rows),
                                   static_cast<uint64_t>(transposed ? rows : cols), ld),
        "describe a matrix");
}

void choose_algorithm(Product& product, const ProductKey& key) {
  Preference preference;
  check(cublasLtMatmulPreferenceCreate(&preference.value), "describe a preference");
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t what, const auto& value) {
    check(cublasLtMatmulPreferenceSetAttribute(preference.value, what, &value, sizeof value),
          "take a preference");
  };
  // Where the depth is split: sums in f32, in order.
  const uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reduction);
  const uint32_t alignment = static_cast<uint32_t>(key.alignment);
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment);
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle(), product.operation.value, product.first.value, product.second.value,
      product.out.value, product.out.value, preference.value, 1, &best, &found);
  if (status != CUBLAS_STATUS_SUCCESS || found == 0)
    fail(ErrorKind::unavailable, "[matmul] cuBLASLt has no algorithm for {} x {} x {} in {} to {}",
         key.m, key.n, key.k, name_of(key.in), name_of(key.out));
  product.algorithm = best.algo;
  product.workspace_bytes = best.workspaceSize;
}

std::shared_ptr<const Product> build(const ProductKey& key) {
  auto product = std::make_shared<Product>();
  check(cublasLtMatmulDescCreate(&product->operation.value, CUBLAS_COMPUTE_32F, CUDA_R_32F),
        "describe a product");
  const cublasOperation_t first = key.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t second = key.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  check(cublasLtMatmulDescSetAttribute(product->operation.value, CUBLASLT_MATMUL_DESC_TRANSA,
                                       &first, sizeof first),
        "transpose");
  check(cublasLtMatmulDescSetAttribute(product->operation.value, CUBLASLT_MATMUL_DESC_TRANSB,
                                       &second, sizeof second),
        "transpose");
  make_layout(product->first, key.in, key.n, key.k, key.ldb, key.b_transposed);
  make_layout(product->second, key.in, key.k, key.m, key.lda, key.a_transposed);
  make_layout(product->out, key.out, key.n, key.m, key.ldc, false);
  choose_algorithm(*product, key);
  return product;
}

// Thread-safe. A training run has a few dozen products.
std::shared_ptr<const Product> product_for(const ProductKey& key) {
  static std::mutex mutex;
  static auto& products = *new std::map<ProductKey, std::shared_ptr<const Product>>;
  const std::lock_guard lock(mutex);
  auto& product = products[key];
  if (!product) product = build(key);
  return product;
}

int alignment_of(const Matrix& a, const Matrix& b, const Matrix& c) {
  uintptr_t all = 256;
  for (const void* p : {a.data, b.data, c.data}) all |= reinterpret_cast<uintptr_t>(p);
  return 1 << std::countr_zero(all);
}

// Row-major: rows of `cols` elements lie row_stride apart. A single row or column is either.
bool is_transposed(const Matrix& m) {
  return m.col_stride != 1;
}
int64_t leading(const Matrix& m) {
  return is_transposed(m) ? std::max(m.col_stride, m.rows) : std::max(m.row_stride, m.cols);
}

}  // namespace

void matmul(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options) {
  if (matvec::takes(a, b, c)) return matvec::multiply(a, b, c, options);
  if (cudaSetDevice(c.device.index) != cudaSuccess)
    fail(ErrorKind::unavailable, "[matmul] GPU {} cannot be used", c.device.index);
  const auto stream = static_cast<cudaStream_t>(device_memory::stream(c.device.index));
  if (a.cols == 0) {
    if (options.accumulate) return;
    const size_t element = size_of(c.dtype);
    const cudaError_t status = cudaMemset2DAsync(c.data, static_cast<size_t>(leading(c)) * element,
                                                 0, static_cast<size_t>(c.cols) * element,
                                                 static_cast<size_t>(c.rows), stream);
    if (status != cudaSuccess)
      fail(ErrorKind::unavailable, "[matmul] zeroing: {}", cudaGetErrorString(status));
    return;
  }
  const auto product = product_for({.m = c.rows,
                                    .n = c.cols,
                                    .k = a.cols,
                                    .lda = leading(a),
                                    .ldb = leading(b),
                                    .ldc = leading(c),
                                    .a_transposed = is_transposed(a),
                                    .b_transposed = is_transposed(b),
                                    .in = a.dtype,
                                    .out = c.dtype,
                                    .accumulate = options.accumulate,
                                    .alignment = alignment_of(a, b, c),
                                    .gpu = c.device.index});
  const Tensor workspace = Tensor::empty({static_cast<int64_t>(product->workspace_bytes)},
                                         DType::u8, c.device, MemoryTag::workspace);
  const float beta = options.accumulate ? 1.0f : 0.0f;
  check(cublasLtMatmul(handle(), product->operation.value, &options.alpha, b.data,
                       product->first.value, a.data, product->second.value, &beta, c.data,
                       product->out.value, c.data, product->out.value, &product->algorithm,
                       workspace.raw(), product->workspace_bytes, stream),
        "multiply");
}

}  // namespace weft::ops::cuda
