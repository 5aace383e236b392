// The `train:` section.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/config_field.h"
#include "core/models/recompute.h"
#include "optim/schedule.h"

namespace weft::recipes {

enum class DeviceChoice { automatic, cpu, cuda };
inline constexpr EnumName<DeviceChoice> kDeviceNames[] = {
    {DeviceChoice::automatic, "auto"}, {DeviceChoice::cpu, "cpu"}, {DeviceChoice::cuda, "cuda"}};

enum class Precision { automatic, fp32, bf16, fp16 };
inline constexpr EnumName<Precision> kPrecisionNames[] = {{Precision::automatic, "auto"},
                                                          {Precision::fp32, "fp32"},
                                                          {Precision::bf16, "bf16"},
                                                          {Precision::fp16, "fp16"}};
// Of gradients and optimizer states.
inline constexpr EnumName<Precision> kStatePrecisionNames[] = {
    {Precision::automatic, "auto"}, {Precision::fp32, "fp32"}, {Precision::bf16, "bf16"}};

enum class MasterWeights { fp32, none };
inline constexpr EnumName<MasterWeights> kMasterWeightsNames[] = {{MasterWeights::fp32, "fp32"},
                                                                  {MasterWeights::none, "none"}};

using Schedule = optim::ScheduleKind;
inline constexpr EnumName<Schedule> kScheduleNames[] = {{Schedule::constant, "constant"},
                                                        {Schedule::cosine, "cosine"},
                                                        {Schedule::linear, "linear"},
                                                        {Schedule::wsd, "wsd"}};

using models::Recompute;
inline constexpr EnumName<Recompute> kRecomputeNames[] = {
    {Recompute::none, "none"}, {Recompute::selective, "selective"}, {Recompute::full, "full"}};

enum class Graphs { automatic, on, off };
inline constexpr EnumName<Graphs> kGraphsNames[] = {
    {Graphs::automatic, "auto"}, {Graphs::on, "on"}, {Graphs::off, "off"}};

struct TrainConfig {
  DeviceChoice device = DeviceChoice::automatic;
  Precision dtype = Precision::automatic;
  Precision gradient_dtype = Precision::automatic;
  MasterWeights master_weights = MasterWeights::fp32;
  Precision optimizer_dtype = Precision::automatic;
  double loss_scale = 65536;    // fp16: at first
  int64_t scale_window = 1000;  // fp16: updates in a row after which the scale doubles
  bool deterministic = true;
  Graphs graphs = Graphs::automatic;
  Bytes memory_limit{};  // 0: all of the GPU
  bool tf32 = false;
  std::string algorithm_cache;  // folder; "": the user's; "none": products are not timed
  int64_t threads = 0;          // 0: auto, the rank's share of the cores

  int64_t micro_batch = 1;   // rows a rank and micro-step
  int64_t global_batch = 8;  // rows a step, over all ranks
  int64_t max_steps = 0;     // 0: as epochs say
  double epochs = 0;         // 0: as max_steps says; neither: 1 epoch

  Duration max_time{};  // of training, over all restarts; 0: no limit

  double lr = 2e-4;
  double min_lr_ratio = 0;  // the schedule ends at lr * min_lr_ratio
  Schedule schedule = Schedule::cosine;
  int64_t warmup = 0;        // steps
  double warmup_ratio = 0;   // share of all steps
  double decay_ratio = 0.2;  // wsd: share of all steps at the end
  double weight_decay = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double max_grad_norm = 1;  // 0: no clipping

  int64_t seed = 0;
  Recompute recompute = Recompute::selective;
  int64_t recompute_layers = 0;  // 0: all
  int64_t offload_layers = 0;    // whose activations wait in host memory
  int64_t eval_every = 0;        // steps; 0: only at the end
  int64_t eval_records = 0;      // 0: all held-out records
  int64_t early_stop = 0;        // evaluations without a lower loss; 0: never
  int64_t max_bad_steps = 10;

  // The steps of warm-up in a run of `total_steps`.
  int64_t warmup_steps(int64_t total_steps) const;
  // Of a model with so many blocks. Throws usage where fewer than offload_layers.
  models::RecomputePlan recompute_plan(int64_t blocks) const;

  void visit(ConfigVisitor& v);
  void check() const;
};

}  // namespace weft::recipes
