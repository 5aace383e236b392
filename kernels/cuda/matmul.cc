// Matrix products by cuBLASLt.
#include "core/ops/matmul.h"

#include <algorithm>
#include <array>
#include <bit>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "core/ops/elementwise.h"
#include "core/tensor/device_memory.h"
#include "kernels/cuda/hopper_product.h"
#include "kernels/cuda/matvec.h"
#include "kernels/cuda/product.cuh"

namespace weft::ops::cuda {
namespace {

constexpr size_t kMostProducts = 4096;  // kept; packed batches have ever new numbers of tokens

struct HashOfKey {
  size_t operator()(const ProductKey& key) const {
    const ProductKind& p = key.kind;
    uint64_t flags = static_cast<uint64_t>(key.gpu);
    for (int part : {static_cast<int>(p.in), static_cast<int>(p.out), static_cast<int>(p.sum),
                     int{p.a_transposed}, int{p.b_transposed}, int{p.bias}, int{p.tf32}})
      flags = flags * 8 + static_cast<uint64_t>(part);
    uint64_t hash = flags * 32 + static_cast<uint64_t>(p.alignment);
    for (int64_t size : {p.m, p.n, p.k, key.lda, key.ldb, key.ldc, key.ld_addend}) {
      hash = (hash ^ static_cast<uint64_t>(size)) * 0x9E3779B97F4A7C15ull;
      hash ^= hash >> 32;
    }
    return hash;
  }
};

// One a GPU, made while it is the thread's.
cublasLtHandle_t handle_of(int gpu) {
  static std::array<cublasLtHandle_t, 64> handles{};
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  cublasLtHandle_t& handle = handles.at(static_cast<size_t>(gpu));
  if (!handle) check(cublasLtCreate(&handle), "start");
  return handle;
}

cudaDataType_t type_of(DType dtype) {
  return dtype == DType::f32 ? CUDA_R_32F : dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_16F;
}

void describe_layout(cublasLtMatrixLayoutOpaque_t& layout, DType dtype, int64_t rows, int64_t cols,
                     int64_t ld) {
  check(cublasLtMatrixLayoutInit(&layout, type_of(dtype), static_cast<uint64_t>(rows),
                                 static_cast<uint64_t>(cols), ld),
        "describe a matrix");
}

void describe(Product& product, const ProductKey& key) {
  const ProductKind& p = key.kind;
  // The library looks at the alignment of the bias; its address comes when the product runs.
  describe_operation(product.operation, p, reinterpret_cast<const void*>(uintptr_t(p.alignment)));
  const auto operand = [&](auto& layout, int64_t rows, int64_t cols, int64_t ld, bool transposed) {
    describe_layout(layout, p.in, transposed ? cols : rows, transposed ? rows : cols, ld);
  };
  operand(product.first, p.n, p.k, key.ldb, p.b_transposed);
  operand(product.second, p.k, p.m, key.lda, p.a_transposed);
  describe_layout(product.out, p.out, p.n, p.m, key.ldc);
  product.has_addend = p.sum == ProductSum::addend;
  if (product.has_addend) describe_layout(product.addend, p.out, p.n, p.m, key.ld_addend);
}

// Thread-safe. A training run of full batches has a few dozen products.
std::shared_ptr<Product> product_for(const ProductKey& key, const ProductOperands& operands,
                                     cudaStream_t stream) {
  struct Cache {
    std::mutex mutex;
    uint64_t table_version = 0;
    std::unordered_map<ProductKey, std::shared_ptr<Product>, HashOfKey> products;
  };
  static Cache& cache = *new Cache;
  const std::lock_guard lock(cache.mutex);
  const uint64_t version = product_table_version();
  if (cache.table_version != version || cache.products.size() >= kMostProducts)
    cache.products.clear();
  cache.table_version = version;
  const auto found = cache.products.find(key);
  if (found != cache.products.end()) return found->second;
  auto product = std::make_shared<Product>();
  product->handle = handle_of(key.gpu);
  describe(*product, key);
  choose_algorithm(*product, key, operands, stream);
  cache.products.emplace(key, product);
  return product;
}

// Algorithms ask for no more than 16 bytes; so the table does not depend on where memory lies.
int alignment_of(const ProductOperands& operands) {
  uintptr_t all = 16;
  for (const void* p : {operands.first, operands.second, operands.added, operands.bias,
                        static_cast<const void*>(operands.out)})
    all |= reinterpret_cast<uintptr_t>(p);
  return 1 << std::countr_zero(all);
}

// Row-major: rows of `cols` elements lie row_stride apart. A single row or column is either.
bool is_transposed(const Matrix& m) {
  return m.col_stride != 1;
}
int64_t leading(const Matrix& m) {
  return is_transposed(m) ? std::max(m.col_stride, m.rows) : std::max(m.row_stride, m.cols);
}

// Row distances that are all multiples of so many bytes, at most 16.
int row_alignment_of(const ProductKey& key) {
  const int64_t in = (key.lda | key.ldb) * static_cast<int64_t>(size_of(key.kind.in));
  const int64_t out = (key.ldc | key.ld_addend) * static_cast<int64_t>(size_of(key.kind.out));
  return 1 << std::countr_zero(static_cast<uint64_t>(in | out | 16));
}

ProductKey key_of(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options,
                  int alignment) {
  ProductKey key{.kind = {.m = c.rows,
                          .n = c.cols,
                          .k = a.cols,
                          .in = a.dtype,
                          .out = c.dtype,
                          .a_transposed = is_transposed(a),
                          .b_transposed = is_transposed(b),
                          .sum = options.addend       ? ProductSum::addend
                                 : options.accumulate ? ProductSum::accumulate
                                                      : ProductSum::none,
                          .bias = options.bias_N != nullptr,
                          .tf32 = a.dtype == DType::f32 && tf32_allowed(),
                          .alignment = alignment},
                 .lda = leading(a),
                 .ldb = leading(b),
                 .ldc = leading(c),
                 .ld_addend = options.addend ? leading(*options.addend) : 0,
                 .gpu = c.device.index};
  key.kind.row_alignment = row_alignment_of(key);
  return key;
}

// Makes the GPU this thread's own.
void use(int gpu) {
  thread_local bool used = false;
  int current = -1;
  if (used && cudaGetDevice(&current) == cudaSuccess && current == gpu) return;
  check(cudaSetDevice(gpu), "choosing a GPU");
  used = true;
}

void clear(const Matrix& c, cudaStream_t stream) {
  const size_t element = size_of(c.dtype);
  check(
      cudaMemset2DAsync(c.data, static_cast<size_t>(leading(c)) * element, 0,
                        static_cast<size_t>(c.cols) * element, static_cast<size_t>(c.rows), stream),
      "zeroing");
}

void add_bias_after(const Matrix& a, const Matrix& b, const Matrix& c, MatmulOptions options) {
  const Tensor& bias = *options.bias_N;
  options.bias_N = nullptr;
  cuda::matmul(a, b, c, options);
  cuda::add_bias(c, bias);
}

}  // namespace

void describe_operation(cublasLtMatmulDescOpaque_t& operation, const ProductKind& kind,
                        const void* bias) {
  const auto set = [&](cublasLtMatmulDescAttributes_t what, const auto& value) {
    check(cublasLtMatmulDescSetAttribute(&operation, what, &value, sizeof value),
          "describe a product");
  };
  check(cublasLtMatmulDescInit(
            &operation, kind.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F),
        "describe a product");
  set(CUBLASLT_MATMUL_DESC_TRANSA, int32_t{kind.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N});
  set(CUBLASLT_MATMUL_DESC_TRANSB, int32_t{kind.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N});
  if (!kind.bias) return;
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t{CUBLASLT_EPILOGUE_BIAS});
  set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
}

cublasStatus_t multiply(Product& product, cublasLtMatmulDesc_t operation,
                        const ProductOperands& operands, const AlgorithmChoice& choice,
                        void* workspace, cudaStream_t stream) {
  return cublasLtMatmul(product.handle, operation, &operands.alpha, operands.first, &product.first,
                        operands.second, &product.second, &operands.beta, operands.added,
                        product.added(), operands.out, &product.out, &choice.algorithm, workspace,
                        choice.workspace_bytes, stream);
}

bool fuses(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options) {
  return hopper::takes(a, b, c, options);
}

void matmul(const Matrix& a, const Matrix& b, const Matrix& c, const MatmulOptions& options) {
  if (!options.thin.empty()) return hopper::multiply(a, b, c, options);
  if (matvec::takes(a, b, c)) return matvec::multiply(a, b, c, options);
  use(c.device.index);
  const auto stream = static_cast<cudaStream_t>(device_memory::stream(c.device.index));
  if (a.cols == 0) return clear(c, stream);
  const Tensor* bias = options.bias_N;
  if (bias && bias->dtype() != c.dtype) return add_bias_after(a, b, c, options);
  const ProductOperands operands{.first = b.data,
                                 .second = a.data,
                                 .added = options.addend ? options.addend->data : c.data,
                                 .out = c.data,
                                 .bias = bias ? bias->raw() : nullptr,
                                 .alpha = options.alpha,
                                 .beta = options.accumulate || options.addend ? 1.0f : 0.0f};
  const ProductKey key = key_of(a, b, c, options, alignment_of(operands));
  const std::shared_ptr<Product> product = product_for(key, operands, stream);
  if (product->refuses_bias) return add_bias_after(a, b, c, options);
  Tensor workspace;
  if (product->choice.workspace_bytes > 0)
    workspace = Tensor::empty({static_cast<int64_t>(product->choice.workspace_bytes)}, DType::u8,
                              c.device, MemoryTag::workspace);
  cublasLtMatmulDescOpaque_t with_bias;
  if (bias) describe_operation(with_bias, key.kind, bias->raw());
  check(multiply(*product, bias ? &with_bias : &product->operation, operands, product->choice,
                 workspace.raw(), stream),
        "multiply");
}

}  // namespace weft::ops::cuda
