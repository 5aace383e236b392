// The `checkpoint:` section.
#pragma once

#include <cstdint>

#include "core/base/config_field.h"

namespace weft::checkpoint {

enum class Resume { automatic, never };
inline constexpr EnumName<Resume> kResumeNames[] = {{Resume::automatic, "auto"},
                                                    {Resume::never, "never"}};

struct CheckpointConfig {
  int64_t every_steps = 500;  // 0: not by steps
  Duration every_minutes{};   // 0: not by time
  int64_t keep = 3;           // 0: all
  bool keep_best = false;
  Resume resume = Resume::automatic;

  void visit(ConfigVisitor& v);
};

}  // namespace weft::checkpoint
