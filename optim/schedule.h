// Learning-rate schedules: pure functions of the step.
#pragma once

#include <cstdint>
#include <string_view>

namespace weft::optim {

enum class ScheduleKind { constant, cosine, linear, wsd };
ScheduleKind schedule_from(std::string_view name);  // throws Error{usage} naming the known ones

struct Schedule {
  ScheduleKind kind = ScheduleKind::cosine;
  double lr = 1e-4;          // the peak
  int64_t warmup_steps = 0;  // linear from 0
  int64_t total_steps = 0;   // cosine, linear, wsd: the end of the decay
  int64_t decay_steps = 0;   // wsd: length of the linear decay before the end
  double min_ratio = 0.0;    // the lowest lr, as a share of the peak
};

// Of the update that follows `step` updates (0: the first), as transformers' schedulers count: with
// warm-up the first update has lr 0. Past total_steps: the lowest.
double learning_rate(const Schedule& schedule, int64_t step);

}  // namespace weft::optim
