#include "core/ops/adapter_gradients.h"

#include "core/ops/matmul.h"

namespace weft::ops {
namespace {

void check_segment(const Tensor& dy_TN, const AdapterSegment& segment) {
  const Tensor &b = segment.b_NR, &db = segment.db_NR;
  CHECK(b.rank() == 2 && b.dtype() == dy_TN.dtype() && b.device() == dy_TN.device(),
        "[adapter_gradients] b {} {}, dy {}", name_of(b.dtype()), b.shape().to_string(),
        name_of(dy_TN.dtype()));
  CHECK(db.shape() == b.shape() && db.device() == b.device() &&
            (db.dtype() == DType::f32 || db.dtype() == b.dtype()),
        "[adapter_gradients] db {} {}, b {}", name_of(db.dtype()), db.shape().to_string(),
        b.shape().to_string());
  CHECK(segment.column >= 0 && segment.column + segment.columns() <= dy_TN.dim(1),
        "[adapter_gradients] columns {} + {} of dy {}", segment.column, segment.columns(),
        dy_TN.shape().to_string());
}

}  // namespace

void check_adapter_segments(const Tensor& dy_TN, const Tensor& h_TR,
                            const std::vector<AdapterSegment>& segments) {
  CHECK(dy_TN.rank() == 2 && h_TR.rank() == 2 && dy_TN.dim(0) == h_TR.dim(0) &&
            dy_TN.dtype() == h_TR.dtype() && dy_TN.device() == h_TR.device() &&
            is_compute_type(dy_TN.dtype(), dy_TN.device()),
        "[adapter_gradients] dy {} {}, h {} {}", name_of(dy_TN.dtype()), dy_TN.shape().to_string(),
        name_of(h_TR.dtype()), h_TR.shape().to_string());
  int64_t rank = 0;
  for (const AdapterSegment& segment : segments) {
    check_segment(dy_TN, segment);
    CHECK(segment.rank == rank, "[adapter_gradients] rank {} after {}", segment.rank, rank);
    rank += segment.ranks();
  }
  CHECK(rank == h_TR.dim(1), "[adapter_gradients] {} ranks of h {}", rank,
        h_TR.shape().to_string());
}

Tensor adapter_gradients(const Tensor& dy_TN, const Tensor& h_TR,
                         const std::vector<AdapterSegment>& segments) {
  check_adapter_segments(dy_TN, h_TR, segments);
  const Tensor dh_TR = Tensor::empty(h_TR.shape(), h_TR.dtype(), h_TR.device());
  const AdapterGradientsArgs args{dy_TN, h_TR, dh_TR, segments};
  if (dh_TR.numel() == 0) return dh_TR;  // no token or no rank: sums of nothing
  dy_TN.device().is_cpu() ? cpu::adapter_gradients(args) : cuda::adapter_gradients(args);
  return dh_TR;
}

void adapter_gradients_by_products(const AdapterGradientsArgs& args,
                                   const AdapterSegment& segment) {
  const Matrix dy = columns(args.dy_TN, segment.column, segment.column + segment.columns());
  const int64_t begin = segment.rank, end = segment.rank + segment.ranks();
  matmul(dy.transposed(), columns(args.h_TR, begin, end), segment.db_NR,
         {.alpha = segment.db_scale, .accumulate = true});
  matmul(dy, segment.b_NR, columns(args.dh_TR, begin, end), {.alpha = segment.dh_scale});
}

}  // namespace weft::ops
