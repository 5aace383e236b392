// What this processor can do, asked once.
#pragma once

namespace weft {

// Instruction sets that kernels are compiled for; one binary holds all of its architecture's.
enum class VectorIsa {
  baseline,  // SSE2 on x86-64, NEON on arm64, what there is elsewhere
  avx2,      // x86-64-v3: AVX2, FMA, F16C, BMI2
  avx512,    // x86-64-v4: AVX-512 F, BW, CD, DQ, VL
};

VectorIsa vector_isa();  // the best one here, at most what set_vector_isa_limit allows
const char* name_of(VectorIsa isa);
void set_vector_isa_limit(VectorIsa limit);  // tests run every copy of a kernel; not thread-safe

// Whether bf16 products run at the speed of bf16 (AVX512_BF16 or better): `dtype: auto`.
bool cpu_has_native_bf16();

}  // namespace weft
