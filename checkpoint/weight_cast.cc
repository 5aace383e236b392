#include "checkpoint/weight_cast.h"

#include <cmath>
#include <cstring>

namespace weft::checkpoint {
namespace {

template <class T>
T load(const std::byte* data) {
  T value;
  std::memcpy(&value, data, sizeof(T));
  return value;
}

// Rounded to odd: rounding the result to 16 bits gives what rounding the double would have given.
float narrow_to_odd(double value) {
  const float nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) == value || !std::isfinite(value)) return nearest;
  float truncated = nearest;
  if (std::abs(static_cast<double>(nearest)) > std::abs(value))
    truncated = std::nextafter(nearest, 0.0f);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(truncated) | 1u);
}

template <class Out, class In>
Out convert(In value) {
  if constexpr (std::is_same_v<In, double>) {
    if constexpr (std::is_same_v<Out, float>) return static_cast<float>(value);
    return Out(narrow_to_odd(value));
  } else {
    return Out(static_cast<float>(value));
  }
}

template <class Out, class In>
void cast_elements(Out* out, const std::byte* data, int64_t count) {
  if constexpr (std::is_same_v<Out, In>) {
    if (count > 0) std::memcpy(out, data, static_cast<size_t>(count) * sizeof(Out));
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] = convert<Out>(load<In>(data + i * sizeof(In)));
  }
}

template <class Out>
void cast_to(Out* out, StoredFloat type, const std::byte* data, int64_t count) {
  switch (type) {
    case StoredFloat::f64:
      return cast_elements<Out, double>(out, data, count);
    case StoredFloat::f32:
      return cast_elements<Out, float>(out, data, count);
    case StoredFloat::f16:
      return cast_elements<Out, f16>(out, data, count);
    case StoredFloat::bf16:
      return cast_elements<Out, bf16>(out, data, count);
  }
}

}  // namespace

size_t size_of(StoredFloat type) {
  return type == StoredFloat::f64 ? 8 : type == StoredFloat::f32 ? 4 : 2;
}

StoredFloat stored_float(DType dtype) {
  if (dtype == DType::f16) return StoredFloat::f16;
  if (dtype == DType::bf16) return StoredFloat::bf16;
  CHECK(dtype == DType::f32, "{} is not a float", name_of(dtype));
  return StoredFloat::f32;
}

void cast_into(const Tensor& out, int64_t at, StoredFloat type, const std::byte* data,
               int64_t count) {
  CHECK(at >= 0 && count >= 0 && at + count <= out.numel(), "{} + {} of {}", at, count,
        out.numel());
  if (out.dtype() == DType::f32) return cast_to(out.data<float>() + at, type, data, count);
  if (out.dtype() == DType::bf16) return cast_to(out.data<bf16>() + at, type, data, count);
  cast_to(out.data<f16>() + at, type, data, count);
}

}  // namespace weft::checkpoint
