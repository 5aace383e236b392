// Tensors for tests: filled with reproducible values, read back as doubles.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core/tensor/tensor.h"

namespace weft::test {

// Where from_doubles and random_tensor put what they make; OpTest sets it for each case.
inline Device& device_of_test() {
  static Device device;
  return device;
}

inline std::vector<double> to_doubles(const Tensor& anywhere) {
  const Tensor t = anywhere.to({});
  std::vector<double> values(static_cast<size_t>(t.numel()));
  for (size_t i = 0; i < values.size(); ++i) {
    switch (t.dtype()) {
      case DType::f32:
        values[i] = t.data<float>()[i];
        break;
      case DType::bf16:
        values[i] = static_cast<float>(t.data<bf16>()[i]);
        break;
      case DType::f16:
        values[i] = static_cast<float>(t.data<f16>()[i]);
        break;
      case DType::f64:
        values[i] = t.data<double>()[i];
        break;
      case DType::i32:
        values[i] = t.data<int32_t>()[i];
        break;
      default:
        fail(ErrorKind::internal, "to_doubles of {}", name_of(t.dtype()));
    }
  }
  return values;
}

// f32, bf16, f16 or i32, rounded to it.
inline Tensor from_doubles(const std::vector<double>& values, const Shape& shape, DType dtype) {
  Tensor t = Tensor::empty(shape, dtype);
  CHECK(static_cast<int64_t>(values.size()) == t.numel());
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::f32) t.data<float>()[i] = static_cast<float>(values[i]);
    if (dtype == DType::bf16) t.data<bf16>()[i] = bf16(static_cast<float>(values[i]));
    if (dtype == DType::f16) t.data<f16>()[i] = f16(static_cast<float>(values[i]));
    if (dtype == DType::i32) t.data<int32_t>()[i] = static_cast<int32_t>(values[i]);
  }
  return t.to(device_of_test());
}

// Uniform in [-scale, scale], rounded to the dtype.
inline Tensor random_tensor(const Shape& shape, DType dtype, uint32_t seed, double scale = 1.0) {
  std::mt19937 engine(seed);
  std::vector<double> values(static_cast<size_t>(shape.numel()));
  for (double& v : values) v = (engine() / 2147483648.0 - 1.0) * scale;
  return from_doubles(values, shape, dtype);
}

inline bool same_bytes(const Tensor& x, const Tensor& y) {
  const Tensor a = x.to({}), b = y.to({});
  return a.bytes() == b.bytes() && (a.bytes() == 0 || !std::memcmp(a.raw(), b.raw(), a.bytes()));
}

// |got - want| <= tolerance * max(1, largest |want|), every element; says which is worst.
inline void expect_close(const std::vector<double>& got, const std::vector<double>& want,
                         double tolerance, const std::string& what = "") {
  ASSERT_EQ(got.size(), want.size()) << what;
  double largest = 1.0, worst = 0.0;
  size_t at = 0;
  for (double w : want) largest = std::max(largest, std::abs(w));
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(got[i] - want[i]);
    if (error > worst || std::isnan(error)) worst = error, at = i;
    if (std::isnan(error)) break;
  }
  if (!(worst <= tolerance * largest))
    ADD_FAILURE() << what << ": element " << at << " is " << got[at] << ", expected " << want[at]
                  << " (error " << worst << ", allowed " << tolerance * largest << ")";
}
inline void expect_close(const Tensor& got, const std::vector<double>& want, double tolerance,
                         const std::string& what = "") {
  expect_close(to_doubles(got), want, tolerance, what);
}

}  // namespace weft::test
