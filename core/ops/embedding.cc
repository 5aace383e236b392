#include "core/ops/embedding.h"

namespace weft::ops {

Tensor embedding(const Tensor& table_VD, const Tensor& ids_T) {
  CHECK(table_VD.rank() == 2 && ids_T.rank() == 1 && ids_T.dtype() == DType::i32,
        "table {}, ids {} {}", table_VD.shape().to_string(), name_of(ids_T.dtype()),
        ids_T.shape().to_string());
  CHECK(table_VD.device() == ids_T.device());
  const Tensor y_TD =
      Tensor::empty({ids_T.dim(0), table_VD.dim(1)}, table_VD.dtype(), table_VD.device());
  auto backend = y_TD.device().is_cpu() ? cpu::embedding : cuda::embedding;
  backend(table_VD, ids_T, y_TD);
  return y_TD;
}

void embedding_backward(const Tensor& dy_TD, const Tensor& ids_T, const Tensor& dtable_VD) {
  CHECK(dy_TD.rank() == 2 && ids_T.rank() == 1 && dtable_VD.rank() == 2);
  CHECK(dy_TD.dim(0) == ids_T.dim(0) && dy_TD.dim(1) == dtable_VD.dim(1), "dy {}, ids {}, table {}",
        dy_TD.shape().to_string(), ids_T.shape().to_string(), dtable_VD.shape().to_string());
  CHECK(ids_T.dtype() == DType::i32);
  CHECK(dtable_VD.dtype() == DType::f32 || dtable_VD.dtype() == dy_TD.dtype());
  CHECK(dy_TD.device() == ids_T.device() && dy_TD.device() == dtable_VD.device());
  auto backend = dy_TD.device().is_cpu() ? cpu::embedding_backward : cuda::embedding_backward;
  backend(dy_TD, ids_T, dtable_VD);
}

}  // namespace weft::ops
