// The `log:` section.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/config_field.h"
#include "core/base/log.h"

namespace weft::telemetry {

inline constexpr EnumName<log::Level> kLevelNames[] = {{log::Level::debug, "debug"},
                                                       {log::Level::info, "info"},
                                                       {log::Level::warn, "warn"},
                                                       {log::Level::error, "error"}};

enum class Progress { automatic, live, plain, none };
inline constexpr EnumName<Progress> kProgressNames[] = {{Progress::automatic, "auto"},
                                                        {Progress::live, "live"},
                                                        {Progress::plain, "plain"},
                                                        {Progress::none, "none"}};

struct LogConfig {
  log::Level level = log::Level::info;
  int64_t every = 10;
  Progress progress = Progress::automatic;
  bool metrics = true;
  std::string trace;  // empty: none
  int64_t trace_after = 5;
  int64_t trace_steps = 3;

  void visit(ConfigVisitor& v);
};

}  // namespace weft::telemetry
