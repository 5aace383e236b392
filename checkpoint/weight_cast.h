// Floats as they lie in files, converted to a tensor's dtype.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/tensor/tensor.h"

namespace weft::checkpoint {

enum class StoredFloat : uint8_t { f64, f32, f16, bf16 };

size_t size_of(StoredFloat type);
StoredFloat stored_float(DType dtype);  // f32, f16 or bf16; CHECKs

// Converts `count` little-endian elements at `data` (any alignment) to elements [at, at + count) of
// `out` (f32, bf16 or f16), each rounded once, to nearest even.
void cast_into(const Tensor& out, int64_t at, StoredFloat type, const std::byte* data,
               int64_t count);

}  // namespace weft::checkpoint
