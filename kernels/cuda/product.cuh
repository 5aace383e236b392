// A product as cuBLASLt describes it. It thinks in columns: our row-major c[M,N] is its c^T[N,M],
// so that b^T comes first and a^T second, and a bias along N runs along its rows.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <vector>

#include "core/base/error.h"
#include "core/ops/product_algorithms.h"

namespace weft::ops::cuda {

inline void check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    fail(ErrorKind::unavailable, "[matmul] cuBLASLt cannot {}: {}", what,
         cublasLtGetStatusString(status));
}
inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess)
    fail(ErrorKind::unavailable, "[matmul] {}: {}", what, cudaGetErrorString(status));
}

// All that a product depends on, but for addresses and factors.
struct ProductKey {
  ProductKind kind;  // of the exact sizes
  int64_t lda, ldb, ldc;
  int64_t ld_addend;  // 0: none
  int gpu;
  bool operator==(const ProductKey&) const = default;
};

struct AlgorithmChoice {
  cublasLtMatmulAlgo_t algorithm{};
  size_t workspace_bytes = 0;
};

struct Product {
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t first, second, addend, out;  // b^T, a^T, (addend)^T, c^T
  bool has_addend = false;
  AlgorithmChoice choice;
  bool refuses_bias = false;  // then there is no choice

  // What is added: c itself where there is no addend (times 0 where c is not accumulated).
  cublasLtMatrixLayout_t added() { return has_addend ? &addend : &out; }
};

struct ProductOperands {
  const void *first, *second, *added;
  void* out;
  const void* bias;
  float alpha, beta;
};

// Of the bias only the alignment counts before the product runs.
void describe_operation(cublasLtMatmulDescOpaque_t& operation, const ProductKind& kind,
                        const void* bias);

cublasStatus_t multiply(Product& product, cublasLtMatmulDesc_t operation,
                        const ProductOperands& operands, const AlgorithmChoice& choice,
                        void* workspace, cudaStream_t stream);

// Sets choice or refuses_bias of a product that is described: as the process's table says, or the
// library's first guess, or the fastest where products are timed. The operands' output is
// overwritten then, unless it is accumulated.
void choose_algorithm(Product& product, const ProductKey& key, const ProductOperands& operands,
                      cudaStream_t stream);

}  // namespace weft::ops::cuda
