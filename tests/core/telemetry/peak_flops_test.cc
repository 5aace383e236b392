#include "core/telemetry/peak_flops.h"

#include <gtest/gtest.h>

namespace weft::telemetry {
namespace {

TEST(PeakFlops, IsThatOfTheDataSheet) {
  const std::pair<const char*, double> gpus[] = {{"NVIDIA H200", 989},
                                                 {"NVIDIA H100 80GB HBM3", 989},
                                                 {"NVIDIA H100 PCIe", 756},
                                                 {"NVIDIA H100 NVL", 835},
                                                 {"NVIDIA GH200 480GB", 989},
                                                 {"NVIDIA B200", 2250},
                                                 {"NVIDIA A100-SXM4-80GB", 312},
                                                 {"NVIDIA A100 80GB PCIe", 312},
                                                 {"NVIDIA A10", 125},
                                                 {"NVIDIA A10G", 70},
                                                 {"NVIDIA L4", 121},
                                                 {"NVIDIA L40S", 362},
                                                 {"Tesla T4", 65},
                                                 {"Tesla V100-SXM2-16GB", 125},
                                                 {"NVIDIA GeForce RTX 3090", 71},
                                                 {"NVIDIA GeForce RTX 4090", 165},
                                                 {"NVIDIA GeForce RTX 5090", 210}};
  for (const auto& [name, teraflops] : gpus)
    EXPECT_EQ(half_peak_flops(name), teraflops * 1e12) << name;
}

TEST(PeakFlops, IsNotGuessed) {
  for (const char* name : {"", "NVIDIA X999", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA T400",
                           "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA GeForce GTX 1650"})
    EXPECT_EQ(half_peak_flops(name), 0) << name;
  EXPECT_EQ(peak_flops({}, DType::bf16), 0);
  EXPECT_EQ(peak_flops({DeviceKind::cuda, 0}, DType::f32), 0);
}

}  // namespace
}  // namespace weft::telemetry
