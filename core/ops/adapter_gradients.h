// The two gradients of low-rank adapters that read dy, the widest matrix of their backward:
// y_i += h_i B_i^T for members i side by side, each with its columns of y and its ranks of h.
#pragma once

#include <vector>

#include "core/ops/matrix.h"

namespace weft::ops {

// A member: columns [column, column + N) of dy, ranks [rank, rank + R) of h and dh.
struct AdapterSegment {
  int64_t column = 0;
  int64_t rank = 0;
  Tensor b_NR;   // dy's dtype
  Tensor db_NR;  // +=; f32 or dy's dtype
  float dh_scale = 1;
  float db_scale = 1;

  int64_t columns() const { return b_NR.dim(0); }
  int64_t ranks() const { return b_NR.dim(1); }
};

// dh_i (=) dh_scale * dy_i B_i and db_i += db_scale * dy_i^T h_i, summed in f32 and rounded once.
// Returns dh[T, ranks of h]; the segments' ranks follow each other and are all of them. Columns of
// dy that no segment has are not read. The same call gives the same bits.
Tensor adapter_gradients(const Tensor& dy_TN, const Tensor& h_TR,
                         const std::vector<AdapterSegment>& segments);

// REQUIRES, of adapter_gradients' operands; throws otherwise.
void check_adapter_segments(const Tensor& dy_TN, const Tensor& h_TR,
                            const std::vector<AdapterSegment>& segments);

struct AdapterGradientsArgs {
  const Tensor& dy_TN;
  const Tensor& h_TR;
  const Tensor& dh_TR;  // =
  const std::vector<AdapterSegment>& segments;
};

// The definition, by two matrix products that each read dy_i.
void adapter_gradients_by_products(const AdapterGradientsArgs& args, const AdapterSegment& segment);

namespace cpu {
void adapter_gradients(const AdapterGradientsArgs& args);
}  // namespace cpu
namespace cuda {
// Reads dy once where it can: takes() in kernels/cuda/adapter_gradients.cu is the rule.
void adapter_gradients(const AdapterGradientsArgs& args);
}  // namespace cuda

}  // namespace weft::ops
