// The `lora:` section.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/config_field.h"

namespace weft::nn {

struct LoraConfig {
  int64_t rank = 16;
  double alpha = 32;
  double dropout = 0;
  std::vector<std::string> targets = {"all"};
  bool rslora = false;
  bool dora = false;

  // What the product of the two adapter matrices is multiplied with.
  double scale() const;

  void visit(ConfigVisitor& v);
  void check() const;
};

}  // namespace weft::nn
