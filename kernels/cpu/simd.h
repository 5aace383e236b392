// Vectors of floats for one instruction set; included by for_each_isa.h only, once an instruction
// set, so there is no include guard. Vec has kLanes lanes and the operators of the language
// (+ - * / and comparisons that give Mask: all ones or zero a lane); a * b + c is fused where the
// processor can. bf16 rows are widened when loaded and rounded to even when stored.
namespace weft::ops::cpu::WEFT_ISA {

#define WEFT_INLINE inline __attribute__((always_inline))

constexpr int64_t kLanes = WEFT_LANES;
typedef float Vec __attribute__((vector_size(WEFT_LANES * 4)));
typedef int32_t Mask __attribute__((vector_size(WEFT_LANES * 4)));
typedef uint32_t Bits __attribute__((vector_size(WEFT_LANES * 4)));
typedef uint16_t Halves __attribute__((vector_size(WEFT_LANES * 2)));

WEFT_INLINE Vec splat(float value) {
  return value - Vec{};  // exact for every value, -0 too, so it costs no instruction
}
WEFT_INLINE Mask lane_index() {
  Mask lanes = {};
  for (int i = 0; i < WEFT_LANES; ++i) lanes[i] = i;
  return lanes;
}
WEFT_INLINE Vec select(Mask mask, Vec yes, Vec no) {
  return mask ? yes : no;
}
// Of a NaN and a number: b when either is NaN (so put what may be NaN second to keep it).
WEFT_INLINE Vec min(Vec a, Vec b) {
  return a < b ? a : b;
}
WEFT_INLINE Vec max(Vec a, Vec b) {
  return a > b ? a : b;
}

// p[0..kLanes) as floats.
WEFT_INLINE Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
WEFT_INLINE Vec load(const bf16* p) {
  Halves h;
  std::memcpy(&h, p, sizeof h);
#if WEFT_LANES == 16  // the compiler widens halves of wide vectors one by one
  const __m512i wide = _mm512_maskz_cvtepu16_epi32(0xffff, reinterpret_cast<__m256i>(h));
  return reinterpret_cast<Vec>(reinterpret_cast<Bits>(wide) << 16);
#elif WEFT_LANES == 8
  const __m256i wide = _mm256_cvtepu16_epi32(reinterpret_cast<__m128i>(h));
  return reinterpret_cast<Vec>(reinterpret_cast<Bits>(wide) << 16);
#else
  return reinterpret_cast<Vec>(__builtin_convertvector(h, Bits) << 16);
#endif
}
WEFT_INLINE void store(float* p, Vec v) {
  std::memcpy(p, &v, sizeof v);
}
WEFT_INLINE void store(bf16* p, Vec v) {
  const Bits u = reinterpret_cast<Bits>(v);
  const Bits rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const Bits bits = (v == v) ? rounded : (u >> 16) | 0x40u;
#if WEFT_LANES == 16
  const Halves h = reinterpret_cast<Halves>(
      _mm512_maskz_cvtepi32_epi16(0xffff, reinterpret_cast<__m512i>(bits)));
#else
  const Halves h = __builtin_convertvector(bits, Halves);
#endif
  std::memcpy(static_cast<void*>(p), &h, sizeof h);
}

// The first `count` lanes (0 < count <= kLanes) of a row's end; the others are `fill`.
template <class T>
WEFT_INLINE Vec load_part(const T* p, int64_t count, float fill = 0.0f) {
  T lanes[WEFT_LANES];
  for (int i = 0; i < WEFT_LANES; ++i) lanes[i] = i < count ? p[i] : T(fill);
  return load(lanes);
}
template <class T>
WEFT_INLINE void store_part(T* p, Vec v, int64_t count) {
  T lanes[WEFT_LANES];
  store(lanes, v);
  for (int i = 0; i < count; ++i) p[i] = lanes[i];
}

// Lanes added (or compared) in a fixed tree.
WEFT_INLINE float sum_lanes(Vec v) {
  for (int half = WEFT_LANES / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) v[i] += v[i + half];
  return v[0];
}
WEFT_INLINE float max_lanes(Vec v) {  // NaN-free input
  float best = v[0];
  for (int i = 1; i < WEFT_LANES; ++i) best = v[i] > best ? v[i] : best;
  return best;
}

// e^x to about 1 ulp: 0 below -104, infinity above 88.73, NaN stays NaN. Cody-Waite reduction and
// the polynomial of Cephes' expf.
WEFT_INLINE Vec exp(Vec x) {
  x = max(splat(-104.0f), min(splat(89.0f), x));
  const Vec shifted = x * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: rounds to an integer
  const Mask n = reinterpret_cast<Mask>(shifted) - 0x4b400000;
  const Vec nf = shifted - 12582912.0f;
  const Vec r = (x - nf * 0.693359375f) - nf * -2.12194440e-4f;
  Vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const Mask half = n >> 1;  // 2^n in two factors, so that its exponent never leaves the range
  const Vec scale1 = reinterpret_cast<Vec>((half + 127) << 23);
  const Vec scale2 = reinterpret_cast<Vec>((n - half + 127) << 23);
  return p * scale1 * scale2;
}

}  // namespace weft::ops::cpu::WEFT_ISA
