#include "core/ops/update_control.h"

#include <algorithm>
#include <cmath>

namespace weft::ops::cpu {
namespace {

constexpr double kMostScale = 16777216;  // 2^24

// Of a column range of gathered[R, columns], column by column.
double sum_columns(const Tensor& gathered, int64_t begin, int64_t end) {
  double total = 0;
  for (int64_t column = begin; column < end; ++column)
    for (int64_t rank = 0; rank < gathered.dim(0); ++rank)
      total += gathered.data<double>()[rank * gathered.dim(1) + column];
  return total;
}

}  // namespace

void update_control(const UpdateControlArgs& args) {
  double* progress = args.progress.data<double>();
  float* control = args.control.data<float>();
  double* report = args.report.data<double>();
  const auto at = [](auto index) { return static_cast<size_t>(index); };
  double& updates = progress[at(Progress::updates)];
  double& scale = progress[at(Progress::loss_scale)];
  double& lasted = progress[at(Progress::updates_at_scale)];

  const double loss = sum_columns(args.gathered, args.shards, args.gathered.dim(1));
  const double norm = std::sqrt(sum_columns(args.gathered, 0, args.shards)) / scale;
  const bool finite = std::isfinite(loss) && std::isfinite(norm);
  const double clip =
      finite && args.max_norm > 0 ? std::min(1.0, args.max_norm / (norm + 1e-6)) : 1;
  control[at(Control::grad_factor)] = static_cast<float>(clip / scale);
  control[at(Control::update)] = finite ? 1.0f : 0.0f;
  if (finite) updates += 1;
  const double t = std::max(updates, 1.0);
  control[at(Control::m_correction)] = static_cast<float>(1 / (1 - std::pow(args.beta1, t)));
  control[at(Control::v_correction)] =
      static_cast<float>(1 / std::sqrt(1 - std::pow(args.beta2, t)));
  report[at(StepReport::loss_sum)] = loss;
  report[at(StepReport::grad_norm)] = norm;
  report[at(StepReport::updated)] = finite ? 1 : 0;
  report[at(StepReport::updates)] = updates;
  report[at(StepReport::loss_scale)] = scale;
  if (args.scale_window > 0) {
    lasted = finite ? lasted + 1 : 0;
    if (!finite) scale = std::max(1.0, scale / 2);
    if (lasted >= static_cast<double>(args.scale_window)) {
      scale = std::min(kMostScale, scale * 2);
      lasted = 0;
    }
  }
  control[at(Control::loss_scale)] = static_cast<float>(scale);
}

}  // namespace weft::ops::cpu
