#include "parallel/parallel_config.h"

#include "core/base/error.h"

namespace weft::parallel {

std::optional<DType> dtype_of(ReduceDtype choice) {
  if (choice == ReduceDtype::automatic) return std::nullopt;
  return choice == ReduceDtype::bf16 ? DType::bf16 : DType::f32;
}

void ParallelConfig::visit(ConfigVisitor& v) {
  v.field("data", data, "ranks that each take a share of the batch")
      .at_least(1)
      .word_for("auto", 0);
  v.field("tensor", tensor, "ranks that share each matrix (only 1 so far)").at_least(1);
  v.field("pipeline", pipeline, "ranks that share the layers (only 1 so far)").at_least(1);
  v.field("context", context, "ranks that share each sequence (only 1 so far)").at_least(1);
  v.field("reduce_dtype", reduce_dtype, kReduceDtypeNames,
          "in which gradients are summed over the ranks; auto: as they are kept");
  v.field("timeout", timeout,
          "GPUs: a call between ranks that takes longer ends the run, as a rank must have died")
      .above(0);
}

void ParallelConfig::check() const {
  const std::pair<const char*, int64_t> missing[] = {
      {"tensor", tensor}, {"pipeline", pipeline}, {"context", context}};
  for (const auto& [name, size] : missing)
    if (size != 1)
      fail(ErrorKind::unavailable,
           "parallel.{}: {} is not implemented yet: only 1 is. Use parallel.data for more ranks",
           name, size);
}

}  // namespace weft::parallel
