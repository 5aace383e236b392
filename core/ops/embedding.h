// Rows of a table by token id.
#pragma once

#include "core/tensor/tensor.h"

namespace weft::ops {

// y[T,D] = table[V,D] rows ids[T] (i32, each in 0..V-1: the caller has checked).
Tensor embedding(const Tensor& table_VD, const Tensor& ids_T);
// dtable[V,D] += dy[T,D] at rows ids, in token order (bit-reproducible). dtable is f32 or dy's
// dtype.
void embedding_backward(const Tensor& dy_TD, const Tensor& ids_T, const Tensor& dtable_VD);

namespace cpu {
void embedding(const Tensor& table, const Tensor& ids, const Tensor& y);
void embedding_backward(const Tensor& dy, const Tensor& ids, const Tensor& dtable);
}  // namespace cpu
namespace cuda {
void embedding(const Tensor& table, const Tensor& ids, const Tensor& y);
void embedding_backward(const Tensor& dy, const Tensor& ids, const Tensor& dtable);
}  // namespace cuda

}  // namespace weft::ops
