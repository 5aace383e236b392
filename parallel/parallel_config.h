// The `parallel:` section: sizes of the mesh's axes, and how their ranks talk.
#pragma once

#include <cstdint>
#include <optional>

#include "core/base/config_field.h"
#include "core/tensor/dtype.h"

namespace weft::parallel {

enum class ReduceDtype { automatic, fp32, bf16 };
inline constexpr EnumName<ReduceDtype> kReduceDtypeNames[] = {
    {ReduceDtype::automatic, "auto"}, {ReduceDtype::fp32, "fp32"}, {ReduceDtype::bf16, "bf16"}};
std::optional<DType> dtype_of(ReduceDtype choice);  // automatic: none, the gradient's own

struct ParallelConfig {
  int64_t data = 0;  // 0: auto, what the other axes leave of the world
  int64_t tensor = 1;
  int64_t pipeline = 1;
  int64_t context = 1;
  ReduceDtype reduce_dtype = ReduceDtype::automatic;
  Duration timeout{50};

  void visit(ConfigVisitor& v);
  void check() const;
};

}  // namespace weft::parallel
