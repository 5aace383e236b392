#include "core/ops/update_control.h"

#include "kernels/cuda/cuda.cuh"

namespace weft::ops::cuda {
namespace {

constexpr double kMostScale = 16777216;  // 2^24

struct Settings {
  int64_t ranks, columns, shards;
  double max_norm, beta1, beta2;
  double scale_window;
};

__device__ double sum_columns(const double* gathered, const Settings& s, int64_t begin,
                              int64_t end) {
  double total = 0;
  for (int64_t column = begin; column < end; ++column)
    for (int64_t rank = 0; rank < s.ranks; ++rank) total += gathered[rank * s.columns + column];
  return total;
}

template <class Index>
__device__ int at(Index index) {
  return static_cast<int>(index);
}

// One thread: a few dozen numbers.
__global__ void update_control_kernel(const double* gathered, Settings s, double* progress,
                                      float* control, double* report) {
  double& updates = progress[at(Progress::updates)];
  double& scale = progress[at(Progress::loss_scale)];
  double& lasted = progress[at(Progress::updates_at_scale)];

  const double loss = sum_columns(gathered, s, s.shards, s.columns);
  const double norm = sqrt(sum_columns(gathered, s, 0, s.shards)) / scale;
  const bool is_finite = isfinite(loss) && isfinite(norm);
  const double clip = is_finite && s.max_norm > 0 ? fmin(1.0, s.max_norm / (norm + 1e-6)) : 1.0;
  control[at(Control::grad_factor)] = static_cast<float>(clip / scale);
  control[at(Control::update)] = is_finite ? 1.0f : 0.0f;
  if (is_finite) updates += 1;
  const double t = fmax(updates, 1.0);
  control[at(Control::m_correction)] = static_cast<float>(1 / (1 - pow(s.beta1, t)));
  control[at(Control::v_correction)] = static_cast<float>(1 / sqrt(1 - pow(s.beta2, t)));
  report[at(StepReport::loss_sum)] = loss;
  report[at(StepReport::grad_norm)] = norm;
  report[at(StepReport::updated)] = is_finite ? 1 : 0;
  report[at(StepReport::updates)] = updates;
  report[at(StepReport::loss_scale)] = scale;
  if (s.scale_window > 0) {
    lasted = is_finite ? lasted + 1 : 0;
    if (!is_finite) scale = fmax(1.0, scale / 2);
    if (lasted >= s.scale_window) {
      scale = fmin(kMostScale, scale * 2);
      lasted = 0;
    }
  }
  control[at(Control::loss_scale)] = static_cast<float>(scale);
}

}  // namespace

void update_control(const UpdateControlArgs& args) {
  const Settings settings{.ranks = args.gathered.dim(0),
                          .columns = args.gathered.dim(1),
                          .shards = args.shards,
                          .max_norm = args.max_norm,
                          .beta1 = args.beta1,
                          .beta2 = args.beta2,
                          .scale_window = static_cast<double>(args.scale_window)};
  update_control_kernel<<<1, 1, 0, stream_on(args.gathered.device())>>>(
      pointer<const double>(args.gathered), settings, pointer<double>(args.progress),
      pointer<float>(args.control), pointer<double>(args.report));
  check(cudaGetLastError(), "update_control");
}

}  // namespace weft::ops::cuda
