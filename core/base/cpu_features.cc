#include "core/base/cpu_features.h"

#include <algorithm>

namespace weft {
namespace {

#if defined(__x86_64__)
VectorIsa detect_isa() {
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  return v4 ? VectorIsa::avx512 : v3 ? VectorIsa::avx2 : VectorIsa::baseline;
}

bool detect_bf16() {
  __builtin_cpu_init();
  return detect_isa() == VectorIsa::avx512 && __builtin_cpu_supports("avx512bf16");
}
#else
VectorIsa detect_isa() {
  return VectorIsa::baseline;
}
bool detect_bf16() {
  return false;
}
#endif

VectorIsa isa_limit = VectorIsa::avx512;

}  // namespace

VectorIsa vector_isa() {
  static const VectorIsa best = detect_isa();
  return std::min(best, isa_limit);
}

void set_vector_isa_limit(VectorIsa limit) {
  isa_limit = limit;
}

const char* name_of(VectorIsa isa) {
  switch (isa) {
    case VectorIsa::baseline:
      return "baseline";
    case VectorIsa::avx2:
      return "avx2";
    case VectorIsa::avx512:
      return "avx512";
  }
  return "?";
}

bool cpu_has_native_bf16() {
  static const bool has = detect_bf16();
  return has && isa_limit == VectorIsa::avx512;
}

}  // namespace weft
