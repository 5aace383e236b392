#include "optim/schedule.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"

namespace weft::optim {
namespace {

// The share of the way from the peak (1) to the lowest (0).
double height(const Schedule& s, int64_t step) {
  const auto share = [](int64_t part, int64_t of) {
    return std::clamp(static_cast<double>(part) / static_cast<double>(std::max<int64_t>(of, 1)),
                      0.0, 1.0);
  };
  switch (s.kind) {
    case ScheduleKind::constant:
      return 1;
    case ScheduleKind::cosine:
      return 0.5 *
             (1 + std::cos(M_PI * share(step - s.warmup_steps, s.total_steps - s.warmup_steps)));
    case ScheduleKind::linear:
      return 1 - share(step - s.warmup_steps, s.total_steps - s.warmup_steps);
    case ScheduleKind::wsd:
      if (s.decay_steps <= 0) return 1;
      return 1 - share(step - (s.total_steps - s.decay_steps), s.decay_steps);
  }
  return 1;
}

}  // namespace

ScheduleKind schedule_from(std::string_view name) {
  if (name == "constant") return ScheduleKind::constant;
  if (name == "cosine") return ScheduleKind::cosine;
  if (name == "linear") return ScheduleKind::linear;
  if (name == "wsd") return ScheduleKind::wsd;
  fail(ErrorKind::usage, "schedule '{}' is unknown: constant, cosine, linear or wsd", name);
}

double learning_rate(const Schedule& s, int64_t step) {
  if (step < s.warmup_steps)
    return s.lr * (static_cast<double>(step) / static_cast<double>(s.warmup_steps));
  return s.lr * (s.min_ratio + (1 - s.min_ratio) * height(s, step));
}

}  // namespace weft::optim
