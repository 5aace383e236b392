#include "core/telemetry/peak_flops.h"

#include <algorithm>
#include <cctype>
#include <string>

#include "core/tensor/device_timer.h"

namespace weft::telemetry {
namespace {

struct Peak {
  const char* words;  // of the name, next to each other
  double teraflops;
};

// NVIDIA's data sheets, dense, sums in fp32. The first that fits counts. V100 and T4: fp16.
constexpr Peak kPeaks[] = {
    {"B200", 2250},    {"GH200", 989}, {"H200 NVL", 835},   {"H200", 989},    {"H100 PCIe", 756},
    {"H100 NVL", 835}, {"H100", 989},  {"H800", 989},       {"A100", 312},    {"A800", 312},
    {"A10G", 70},      {"A10", 125},   {"A30", 165},        {"A40", 150},     {"L40S", 362},
    {"L40", 181},      {"L4", 121},    {"RTX 3090 Ti", 80}, {"RTX 3090", 71}, {"RTX 4090", 165},
    {"RTX 5090", 210}, {"V100", 125},  {"T4", 65}};

// "NVIDIA A100-SXM4-80GB" as " NVIDIA A100 SXM4 80GB ".
std::string words_of(std::string_view name) {
  std::string words = " ";
  for (const char c : name) words += std::isalnum(static_cast<unsigned char>(c)) ? c : ' ';
  return words + " ";
}

}  // namespace

double half_peak_flops(std::string_view gpu_name) {
  const std::string words = words_of(gpu_name);
  for (const char* part : {" MIG ", " Laptop ", " Max Q "})
    if (words.find(part) != std::string::npos) return 0;
  for (const Peak& peak : kPeaks)
    if (words.find(words_of(peak.words)) != std::string::npos) return peak.teraflops * 1e12;
  return 0;
}

double peak_flops(Device device, DType dtype) {
  if (device.is_cpu() || size_of(dtype) != 2) return 0;
  return half_peak_flops(device_timer::gpu_name(device.index));
}

}  // namespace weft::telemetry
