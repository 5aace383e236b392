// The floor of a training step on this machine: the time of the work that no program can leave out,
// each piece measured alone.
#pragma once

#include <string>
#include <vector>

#include "core/models/decoder.h"
#include "recipes/train_config.h"

namespace weft::recipes {

// What a rank computes in one optimizer step.
struct StepShape {
  models::DecoderConfig model;
  int64_t rows = 1;  // of seq_len tokens, in a micro-batch
  int64_t seq_len = 0;
  int64_t micro_batches = 1;
  bool frozen_base = false;  // LoRA
  models::RecomputePlan recompute = Recompute::none;
  DType dtype = DType::f32;
  DType gradient_dtype = DType::f32;
  bool deterministic = true;
  int64_t optimizer_bytes = 0;  // moved by one clip and update of this rank
  Device device;

  int64_t tokens() const { return rows * seq_len; }  // of a micro-batch
  // Blocks that are treated so.
  int64_t layers(Recompute mode) const;
  double tokens_a_step() const { return static_cast<double>(tokens() * micro_batches); }
};

// One piece of device work of a step.
struct FloorPart {
  std::string name;    // "gate+up dX"
  std::string shape;   // "16384 x 16384 x 2048"
  double flops = 0;    // of one call
  double seconds = 0;  // of one call, median
  double calls = 0;    // in a step
  double total() const { return seconds * calls; }
  double teraflops() const { return seconds > 0 ? flops / seconds / 1e12 : 0; }
};

struct Floor {
  double copy_bytes_per_second = 0;  // read + written
  std::vector<FloorPart> products;
  std::vector<FloorPart> attention;
  double elementwise_bytes = 0;  // of a step
  double optimizer_bytes = 0;

  double products_seconds() const;
  double attention_seconds() const;
  double elementwise_seconds() const { return elementwise_bytes / copy_bytes_per_second; }
  double optimizer_seconds() const { return optimizer_bytes / copy_bytes_per_second; }
  double seconds() const;  // of a step: all of them, one after the other
};

Floor measure_floor(const StepShape& shape);

// Bytes that the step's work between products must move, where each such pass is fused as far as
// its inputs allow and reads and writes each tensor once. bench_floor.cc has the table.
double elementwise_bytes(const StepShape& shape);

}  // namespace weft::recipes
