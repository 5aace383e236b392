// What `weft bench` found, for people and for programs. Figures are of one device.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "recipes/bench_links.h"
#include "recipes/bench_step.h"

namespace weft::recipes {

struct BenchResult {
  std::string name;       // "1b sft seq 4096 micro-batch 4 recompute selective bf16 x1"
  std::string device;     // "NVIDIA H200", "CPU, 2 threads"
  double peak_flops = 0;  // a second; 0: not known
  StepShape shape;
  std::optional<Floor> floor;
  std::optional<StepTiming> step;
  std::vector<LinkSpeed> links;

  double flops_per_token() const {
    return shape.model.flops_per_token(shape.seq_len, shape.frozen_base);
  }
  // Of a step that takes so long.
  double tokens_per_second(double seconds) const { return shape.tokens_a_step() / seconds; }
  double teraflops(double seconds) const {
    return tokens_per_second(seconds) * flops_per_token() / 1e12;
  }
  double share_of_floor() const { return floor->seconds() / step->seconds; }
};

std::string to_text(const BenchResult& result);
Json to_json(const BenchResult& result);

}  // namespace weft::recipes
