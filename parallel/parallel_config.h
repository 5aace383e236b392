// The `parallel:` section: sizes of the mesh's axes.
#pragma once

#include <cstdint>

#include "core/base/config_field.h"

namespace weft::parallel {

struct ParallelConfig {
  int64_t data = 0;  // 0: auto, what the other axes leave of the world
  int64_t tensor = 1;
  int64_t pipeline = 1;
  int64_t context = 1;

  void visit(ConfigVisitor& v);
  void check() const;
};

}  // namespace weft::parallel
